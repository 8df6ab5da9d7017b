"""Audits of quants whose checkpoints have small files of their own kinds: pieces, an embedding model, an odd index."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from requant.formats.gguf import read_header
from requant.ground.programs import work_folder
from requant.pipeline.write_gguf import open_conversion, write_gguf
from requant.places.place import LocalPlace
from support.checkout import TOOLCHAINS
from support.checkpoints import MODELS, give_tokenizer, write_checkpoint
from support.command import Audit
from support.metadata_changes import drop, put, swap
from support.relabelled import number, relabelled
from support.workplace import TOOLCHAIN, Workplace

TREE = TOOLCHAINS / TOOLCHAIN / "source"
TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize"


def quantized(folder: Path, name: str, qwen: Path) -> tuple[Path, Path]:
    """A checkpoint, and its quant by the real llama-quantize."""
    model, checkpoint = MODELS[name], folder / "checkpoint"
    checkpoint.mkdir()
    write_checkpoint(checkpoint, model)
    give_tokenizer(checkpoint, model, qwen, TREE, Path("unused"))
    with work_folder(folder / "work", keep=True) as work, LocalPlace(checkpoint, "the checkpoint") as files:
        (work.path / "model").symlink_to(checkpoint)
        write_gguf(work, open_conversion(files), "model", TREE, "own.gguf", folder / "log")
    quant = folder / "Small-Q8_0.gguf"
    command = [TOOL, folder / "work" / "own.gguf", quant, "Q8_0"]
    subprocess.run(command, check=True, capture_output=True)
    return checkpoint, quant


PLANTED = {
    "pieces swapped": (swap("tokens", 260, 261), "tokenizer.ggml.tokens"),
    "eos": (put("tokenizer.ggml.eos_token_id", number(1)), "tokenizer.ggml.eos_token_id"),
    "scores gone": (drop("tokenizer.ggml.scores"), "tokenizer.ggml.scores"),
}


def test_a_vocabulary_of_pieces_is_checked(demo: Workplace, audit: Audit, tmp_path: Path) -> None:
    checkpoint, quant = quantized(tmp_path, "tokenizer.json with more, of pieces", demo.results / "generated")
    code, said, report = audit(quant, "--source", f"{checkpoint}/", "--full")
    assert (code, report["answers"]["metadata"]["status"]) == (0, "harmless"), said
    header = read_header(quant)
    (tmp_path / "x").mkdir()
    for change, key in PLANTED.values():
        metadata = dict(header.metadata)
        change(metadata)
        changes = {name: metadata.get(name) for name in header.metadata}
        code, said, report = audit(
            relabelled(quant, tmp_path / "x" / quant.name, changes), "--source", f"{checkpoint}/"
        )
        assert (code, report["answers"]["weights"]["status"]) == (1, "exact"), said
        assert key in report["answers"]["metadata"]["sentence"]


def test_an_embedding_model_with_an_odd_index(demo: Workplace, audit: Audit, tmp_path: Path) -> None:
    """Tensors without model., a pooling type, a wrong sum, and a tensor that no index names."""
    checkpoint, quant = quantized(tmp_path, "Qwen3-Embedding", demo.results / "generated")
    [whole] = checkpoint.glob("*.safetensors")
    names = json.loads(whole.read_bytes()[8 : 8 + int.from_bytes(whole.read_bytes()[:8], "little")])
    names.pop("__metadata__", None)
    named = {name: whole.name for name in names if name != "norm.weight"}
    index = {"metadata": {"total_size": 1}, "weight_map": named}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    code, said, report = audit(quant, "--source", f"{checkpoint}/", "--full")
    assert code == 0, said
    assert "gives a total_size other than" in said
    assert "does not name norm.weight, which its files hold" in said
    assert report["answers"]["weights"]["status"] == "exact"
