"""requant.audit.recipe.command: the command of llama-quantize that makes a custom mix.

tests/e2e/test_custom_mix.py and test_custom_experts.py run such commands with the real llama-quantize.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from requant.audit.recipe.mix import Made
from requant.audit.status import Mix
from requant.formats.ggml import GGMLType as T
from requant.ground.exit_codes import ExitCode
from requant.quantization.file_types import FILE_TYPES
from support.mixes import SOURCE, TIED, answered, made

FFN_DOWN = r"^blk\.[0-9]+\.ffn_down\.weight$"
ATTN_V = r"^blk\.[0-9]+\.attn_v\.weight$"
NORMS = dict.fromkeys(("attn_norm.weight", "ffn_norm.weight", "output_norm.weight"), T.F32)
PURE = {"weight": T.Q4_K, "output.weight": T.Q4_K, "token_embd.weight": T.Q4_K, **NORMS}
CUSTOM: dict[str, tuple[Made, str]] = {
    "_L, untied": (
        made("Q4_K_M", {"token_embd.weight": T.Q8_0, "output.weight": T.Q8_0}, name="Model-Q4_K_L.gguf"),
        "--token-embedding-type q8_0 --output-tensor-type q8_0",
    ),
    "_L, tied": (
        made("Q6_K", {"token_embd.weight": T.Q8_0}, source=TIED, name="Model-Q6_K_L.gguf"),
        "--token-embedding-type q8_0",
    ),
    "--pure": (
        made("Q4_K_M", PURE),
        f"--output-tensor-type q4_k --tensor-type '{ATTN_V}=q4_k' --tensor-type '{FFN_DOWN}=q4_k'",
    ),
    "--leave-output-tensor": (made("Q4_K_M", {"output.weight": T.BF16}), "--output-tensor-type bf16"),
    "--leave-output-tensor, of F16": (made("Q4_K_M", {"output.weight": T.F16}), "--output-tensor-type f16"),
    "a kind": (made("Q4_K_M", {"attn_v.weight": T.Q8_0}), f"--tensor-type '{ATTN_V}=q8_0'"),
    "one layer of a plain kind": (
        made("Q4_K_M", {"blk.3.attn_q.weight": T.Q8_0}),
        "--tensor-type '^blk\\.(0|1|2|4|5|6|7)\\.attn_q\\.weight$=q4_k' --tensor-type '^blk\\.3\\.attn_q\\.weight$=q8_0'",
    ),
    "one layer of a kind with rules": (
        made("Q4_K_S", {"blk.6.attn_v.weight": T.Q8_0}),
        " ".join(
            f"--tensor-type '^blk\\.{layers}\\.attn_v\\.weight$={kind}'"
            for layers, kind in (("(0|1|2|3)", "q5_k"), ("(4|5|7)", "q4_k"), ("6", "q8_0"))
        ),
    ),
    "embedding of an F16 file": (
        made("F16", {"token_embd.weight": T.Q8_0}, imatrix=False), "--token-embedding-type q8_0",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subject", "options"), CUSTOM.values(), ids=CUSTOM)
def test_a_custom_mix_is_a_fact_with_its_command(subject: Made, options: str) -> None:
    found = answered(subject)
    assert (found.status, found.status.exit_code, found.findings) == (Mix.CUSTOM, ExitCode.OK, ()), found.sentence
    assert subject.label is not None
    name = FILE_TYPES[subject.label].name
    matrix = ["--imatrix", "imatrix.gguf"] if subject.imatrix else []
    expected = ["llama-quantize", *matrix, *shlex.split(options), "weights.gguf", "quant.gguf", name]
    assert (found.mix, list(found.command)) == (name, expected)
    assert found.bits != found.stock_bits
    assert f"{found.bits:.2f} bits per weight, {name} has {found.stock_bits:.2f}" in found.sentence


def test_a_mix_of_quantized_and_unquantized_starts_from_a_quantized_one() -> None:
    """llama-quantize passes over --tensor-type where the file type is unquantized."""
    found = answered(made("F16", {"attn_v.weight": T.Q8_0}))
    assert (found.status, found.mix) == (Mix.CUSTOM, "Q8_0")
    assert "^blk\\.[0-9]+\\.ffn_up\\.weight$=f16" in found.command


EMBEDDED = SOURCE | {"per_layer_token_embd.weight": ((512, 64), T.BF16)}
TOGETHER: dict[str, tuple[Made, str]] = {
    "an embedding, where a layer has one too": (
        made("Q4_K_M", {"token_embd.weight": T.Q8_0}, source=EMBEDDED),
        "--token-embedding-type q8_0 --tensor-type '^per_layer_token_embd\\.weight$=q4_k'",
    ),
    "that of the layers alone": (
        made("Q4_K_M", {"per_layer_token_embd.weight": T.Q8_0}, source=EMBEDDED),
        "--tensor-type '^per_layer_token_embd\\.weight$=q8_0'",
    ),
    "values, fused or not": (
        made("Q6_K", {"blk.1.attn_v.weight": T.Q8_0}, source={
            name.replace("attn_v", "attn_qkv") if "blk.0" in name else name: each for name, each in SOURCE.items()
        }),
        " ".join(f"--tensor-type '^blk\\.{rest}'" for rest in (
            "[0-9]+\\.attn_qkv\\.weight$=q6_k", "1\\.attn_v\\.weight$=q8_0", "(2|3|4|5|6|7)\\.attn_v\\.weight$=q6_k",
        )),
    ),
    "outside of the layers": (
        made("Q4_K_M", {"enc.blk.0.attn_q.weight": T.Q8_0}, source={
            "enc.blk.0.attn_q.weight": ((512, 512), T.BF16), "enc.blk.1.attn_q.weight": ((512, 512), T.BF16), **SOURCE,
        }),
        "--tensor-type '^enc\\.blk\\.0\\.attn_q\\.weight$=q8_0' --tensor-type '^enc\\.blk\\.1\\.attn_q\\.weight$=q4_k'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subject", "options"), TOGETHER.values(), ids=TOGETHER)
def test_what_is_counted_or_chosen_together_is_named_together(subject: Made, options: str) -> None:
    found = answered(subject)
    assert (found.status, list(found.command[3:-3])) == (Mix.CUSTOM, shlex.split(options)), found.sentence


def test_importances_kept_from_tensors_are_in_the_command() -> None:
    given = ("--exclude-weights", "blk.0.attn_k.weight")
    for subject, words in (
        (made("Q4_K_M"), ()),
        (made("Q4_K_M", {"output.weight": T.Q8_0}), ("--output-tensor-type", "q8_0")),
    ):
        found = answered(replace(subject, given=given))
        assert found.status.exit_code is ExitCode.OK
        assert found.command == (
            "llama-quantize",
            "--imatrix",
            "imatrix.gguf",
            *given,
            *words,
            "weights.gguf",
            "quant.gguf",
            "Q4_K_M",
        )
