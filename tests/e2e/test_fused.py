"""What ``--fuse-qkv`` of the pinned converter writes is compared with the parts, whatever it does to them before."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from requant.audit.answers import cover
from requant.audit.named_weights import as_in, open_weights
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import audit_tensors
from requant.formats.gguf import read_header
from requant.formats.ranged import LocalFile
from requant.quantization.verdict import Verdict
from support.checkout import TOOLCHAINS
from support.checkpoints import MODELS, give_tokenizer, write_checkpoint
from support.pure_quantizer import PureQuantizer
from support.workplace import TOOLCHAIN, Workplace

TREE = TOOLCHAINS / TOOLCHAIN / "source"


def verdicts(python: Path, qwen: Path, place: Path, name: str) -> tuple[dict[str, Verdict], tuple[str, ...]]:
    """Of the fused conversion's tensors, and what is missing of the checkpoint."""
    folder, out = place / "model", place / "model.gguf"
    folder.mkdir()
    write_checkpoint(folder, MODELS[name])
    give_tokenizer(folder, MODELS[name], qwen, TREE, python)
    command = [python, TREE / "convert_hf_to_gguf.py", folder, "--outfile", out, "--outtype", "bf16", "--fuse-qkv"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    header, weights = read_header(out), open_weights(str(folder))
    with weights.place, LocalFile(out) as file:
        material = Material(file, header, as_in(header, weights).tensors, {}, PureQuantizer)
        sweep = audit_tensors(material, cover(header, None, None).selected, 2, lambda _: None)
    return {audit.tensor.name: audit.verdict for audit in sweep.tensors}, sweep.missing


@pytest.mark.long
@pytest.mark.parametrize("name", ["Llama, biased", "Qwen2", "Qwen3"])
def test_a_fused_conversion_is_exact(demo: Workplace, upstream_converter: Path, tmp_path: Path, name: str) -> None:
    """Llama's queries and keys are reordered before they are fused, and Qwen2 has biases."""
    found, missing = verdicts(upstream_converter, demo.results / "generated", tmp_path, name)
    assert {"blk.0.attn_qkv.weight"} <= found.keys() and not {"blk.0.attn_q.weight"} & found.keys()
    assert (set(found.values()), missing) == ({Verdict.EXACT}, ())
