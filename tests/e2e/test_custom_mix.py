"""Mixes that llama-quantize makes by its options: the audit finds them exact, and its command makes the same again."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from requant.audit.recipe.mix import Made, answer_mix
from requant.audit.status import Mix
from requant.conversion.layout import plan
from requant.formats.ggml import GGMLType
from requant.formats.gguf import Tensor, read_header
from requant.quantization.file_types import FILE_TYPES
from requant.quantization.mix import Model
from support.command import Audit
from support.hollow import TOOL, chosen, config, write_empty_imatrix, write_hollow
from support.quants import contents
from support.workplace import Workplace
from support.zoo import ZOO, write_zoo

CUSTOM: dict[str, tuple[list[str], str]] = {
    "_L": (["--token-embedding-type", "q8_0"], "Q4_K_M"),
    "pure": (["--pure"], "Q4_K_M"),
    "one layer": (["--tensor-type", "blk\\.1\\.attn_v=q8_0"], "Q4_K_M"),
    "half of the layers": (["--tensor-type", "blk\\.[02]\\.ffn_down=q5_k"], "Q4_K_S"),
    "one kind, and the embedding as it was": (
        ["--token-embedding-type", "bf16", "--tensor-type", "attn_q=q3_k"],
        "Q6_K",
    ),
}

FAIR = ("pure", "_L")
"""What the gate makes whole; the others' types it compares without weights, as those of many more."""


def quantize(command: list[str], work: Path) -> None:
    done = subprocess.run([str(TOOL), *command, "2"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def work(demo: Workplace, tmp_path: Path) -> Path:
    """A folder in which the printed command runs as it stands."""
    (tmp_path / "weights.gguf").symlink_to(demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf")
    (tmp_path / "imatrix.gguf").symlink_to(demo.release / "imatrix.gguf")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "base"),
    [pytest.param(*case, marks=() if name in FAIR else pytest.mark.long, id=name) for name, case in CUSTOM.items()],
)
def test_the_printed_command_makes_it_again(
    audit: Audit, generated: Path, work: Path, options: list[str], base: str
) -> None:
    quantize(["--imatrix", "imatrix.gguf", *options, "weights.gguf", f"Tiny-{base}.gguf", base], work)
    custom = work / f"Tiny-{base}.gguf"
    code, said, report = audit(custom, "--source", generated, "--full", COLUMNS="1000")
    words = {question: answer["status"] for question, answer in report["answers"].items()}
    expected = {"weights": "exact", "recipe": "custom", "metadata": "harmless", "coverage": "full"}
    assert (code, words) == (0, expected), said
    program, *command = report["mix"]["command"]
    assert (program, report["mix"]["name"], command[-1]) == ("llama-quantize", base, base)
    assert re.search(r"^makes this mix +llama-quantize --imatrix imatrix\.gguf ", said, re.MULTILINE), said
    quantize(command, work)
    assert contents(work / "quant.gguf") == contents(custom)


MODELS = {
    "untied": config("llama", 12, (8, 2)),
    "tied": config("qwen3", 12, (8, 2), tie_word_embeddings=True),
    "70B": config("llama", 80, (64, 8)),
    "odd rows": config("llama", 9, (4, 1), hidden_size=288, head_dim=None, intermediate_size=768),
}
OPTIONS = {
    "_L": ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"],
    "pure": ["--pure"],
    "output left": ["--leave-output-tensor"],
    "output in F16": ["--output-tensor-type", "f16"],
    "a kind": ["--tensor-type", "attn_v=q8_0"],
    "kinds": ["--tensor-type", "ffn=iq4_nl", "--tensor-type", "attn_output=f16"],
    "one layer": ["--tensor-type", "blk\\.3\\.ffn_down=q8_0"],
    "some layers of all kinds": ["--tensor-type", "blk\\.(0|1|7)\\.=q6_k"],
    "the first layers' values": ["--tensor-type", "blk\\.[0-4]\\.attn_v=q5_1"],
}
OF_OTHERS = {
    "values of some layers": ["--tensor-type", "blk\\.[0-4]\\.attn_v=q5_1"],
    "experts": ["--tensor-type", "ffn_.*_exps=q5_k"],
    "one layer": ["--tensor-type", "blk\\.7\\.=q8_0"],
    "embeddings": ["--tensor-type", "per_layer_token_embd=q5_k", "--token-embedding-type", "q4_k"],
    "outside of the layers": ["--tensor-type", "dec\\.blk=q5_1"],
}
BASES = ("Q4_K_M", "Q3_K_M", "Q2_K", "IQ4_XS", "IQ3_XS", "Q4_0", "Q8_0", "F16")


@pytest.mark.parametrize("name", MODELS)
def test_llama_quantize_chooses_the_same_by_the_command(demo: Workplace, tmp_path: Path, name: str) -> None:
    """Types alone, on models of other shapes: many file types, options and places where they are counted."""
    model, imatrix = tmp_path / "model.gguf", write_empty_imatrix(tmp_path / "imatrix.gguf")
    # Of 80 layers each question takes long; what file types do with them is in test_mix.
    bases = BASES[:2] if name == "70B" else BASES
    require_chosen_again(write_hollow(model, plan(MODELS[name])), imatrix, bases, OPTIONS)


@pytest.mark.parametrize("name", ["experts, all names, tied", "dense, all names"])
def test_the_same_of_other_architectures(demo: Workplace, tmp_path: Path, name: str) -> None:
    """With experts, fused and latent attention and embeddings for each layer, whose values are counted together."""
    model, imatrix = tmp_path / "model.gguf", write_empty_imatrix(tmp_path / "imatrix.gguf")
    require_chosen_again(write_zoo(model, ZOO[name]), imatrix, ("Q4_K_M", "IQ2_M"), OF_OTHERS)


def require_chosen_again(model: Path, imatrix: Path, bases: Sequence[str], cases: Mapping[str, list[str]]) -> None:
    header = read_header(model)
    source = {each.name: (each.shape, each.type) for each in header.tensors}
    facts = Model.of(header.metadata)
    given, customs = ["--imatrix", str(imatrix)], 0
    for base in bases:
        [label] = [number for number, file_type in FILE_TYPES.items() if file_type.name == base]
        for case, options in cases.items():
            types = chosen(model, base, [*given, *options])
            assert types is not None
            answer = answer_mix(Made(tensors(source, types), source, facts, label, "Model.gguf", True))
            assert answer.status in (Mix.CUSTOM, Mix.STOCK), (base, case, answer.sentence)
            assert answer.findings == (), (base, case, answer.findings)
            if answer.status is Mix.CUSTOM:
                customs += 1
                # All but the program, the importance matrix and the names of files and mix.
                again = chosen(model, answer.command[-1], [*given, *answer.command[3:-3]])
                assert again == types, (base, case, answer.command)
    assert customs > len(bases) * len(cases) / 2


def tensors(source: dict[str, tuple[tuple[int, ...], GGMLType]], types: dict[str, GGMLType]) -> list[Tensor]:
    return [Tensor(each, shape, types[each], 0, 0) for each, (shape, _) in source.items()]
