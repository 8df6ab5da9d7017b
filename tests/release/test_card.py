"""The model card: complete, and the same in both languages."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from requant.formats.ggml import GGMLType
from requant.toolchain.serving import PARALLEL, serving_flags
from support.cards import halves, render, tables
from support.manifests import KINDS, Manifest, generated_model, hub_model, packaged_model, sha

every_kind = pytest.mark.parametrize("kind", KINDS)
FETCHED = 2
"""Commands with which llama.cpp downloads the model by itself."""


def file_entries(value: Any) -> list[dict[str, Any]]:
    """Every file that the manifest describes outside the steps."""
    if isinstance(value, list):
        return [found for item in value for found in file_entries(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if {"name", "size", "sha256"} <= set(value) else []
    return own + [found for key, item in value.items() if key != "steps" for found in file_entries(item)]


@every_kind
def test_both_halves_hold_every_file_and_number(kind: Callable[[], Manifest]) -> None:
    document = kind()
    found = file_entries({**document["inputs"], "bf16": document["model"]["file"], "imatrix": document["imatrix"]["file"],
                          "quants": [quant["file"] for quant in document["quants"]]})  # fmt: skip
    assert len(found) >= 6
    facts = [text for file in found for text in (f"{file['size']:,} B", file["sha256"])]
    facts += [file["name"] for file in found if file["name"] != "model.gguf"]
    facts += ["123", "512", "62,976", "252", document["recipe"]["sha256"], "c" * 40, "d" * 40, sha("sdist")]
    facts += ["-fstrict", "llama-imatrix -m model.gguf -t {threads}", "32768", "8,192"]
    for half in halves(render(document)):
        assert [fact for fact in facts if fact not in half] == []


@every_kind
def test_same_bytes_every_time(kind: Callable[[], Manifest]) -> None:
    card = render(kind())
    assert card == render(kind())
    assert card.endswith("\n") and not card.endswith("\n\n")
    assert "\r" not in card and not re.search(r"\{[{%#]", card)


@every_kind
def test_tables_are_well_formed_and_alike(kind: Callable[[], Manifest]) -> None:
    card = render(kind())
    chinese, english = ([[len(row) for row in table] for table in tables(half)] for half in halves(card))
    assert chinese == english
    assert all(len(set(widths)) == 1 for widths in english)
    # Every line that looks like a row is one: none was cut off by a blank line or a stray pipe.
    text = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    assert len(rows) == sum(map(len, tables(card)))
    assert all(not line.startswith("|-") or set(line) == {"|", "-"} for line in text.splitlines())


def test_bits_per_weight() -> None:
    size = 256 * 512 // 256 * GGMLType.Q4_K.type_size + 256 * 4
    assert f"{8 * size / (256 * 512 + 256):.2f} bits per weight" in render(hub_model())


def test_fallbacks_are_listed_by_kind() -> None:
    for half in halves(render(packaged_model())):
        assert "`blk.0-29,31.attn_q.weight`" in half and "`token_embd.weight`" in half
        assert "fallbacks" in half
    assert "(31 tensors)" in half and "(1 tensor)" in half


@pytest.mark.parametrize("kind", [hub_model, generated_model])
def test_no_warning_without_fallbacks(kind: Callable[[], Manifest]) -> None:
    assert not re.search("Warning|注意|fallback", render(kind()))


def test_weights_that_were_rounded_are_marked() -> None:
    for half, warning in zip(halves(render(hub_model())), ("先舍入为 BF16", "Rounded to BF16 first"), strict=True):
        assert warning in half
        assert "`F16, F32`" in half
    assert "BF16 first" not in render(generated_model())


def test_twice_quantized_weights_are_marked() -> None:
    for half, warning in zip(halves(render(packaged_model())), ("两次量化", "quantized twice"), strict=True):
        assert warning in half and re.search("Q4_1, Q6_K|Q4\\\\_1, Q6\\\\_K", half)


def test_a_generated_model_says_that_it_is_useless() -> None:
    for half, words in zip(halves(render(generated_model())), ("没有实际用途", "useless"), strict=True):
        assert words in half
    assert "useless" not in render(hub_model())


@pytest.mark.parametrize(
    ("kind", "heading", "switch"), [(hub_model, 1, 0), (generated_model, 1, 1), (packaged_model, 0, 0)]
)
def test_thinking(kind: Callable[[], Manifest], heading: int, switch: int) -> None:
    for half in halves(render(kind())):
        assert len(re.findall("^### (?:Thinking|思考模式)$", half, re.MULTILINE)) == heading
        assert half.count('"chat_template_kwargs": {"enable_thinking": false}') == switch
        assert half.count("reasoning_content") == heading


ARITHMETICS = {
    "portable": (generated_model, "任何 x86-64 或 ARM64 处理器", "any x86-64 or ARM64 processor"),
    "native": (packaged_model, "同类处理器", "the same kind of processor"),
    "cuda": (hub_model, "同一 GPU 架构", "the same GPU architecture"),
}


@pytest.mark.parametrize("name", ARITHMETICS)
def test_where_the_importance_matrix_repeats(name: str) -> None:
    """Said twice in each half, and nothing is said of the other arithmetics."""
    kind, *words = ARITHMETICS[name]
    others = [entry for other, (_, *pair) in ARITHMETICS.items() if other != name for entry in pair]
    for half, word in zip(halves(render(kind())), words, strict=True):
        assert half.count(word) == 2
        assert not [other for other in others if other in half]
        assert ("workflow/native" in half) == (name == "portable")
        assert "``" not in half.replace("```", "")


def test_the_repository_is_the_recipe_s_or_named_after_publisher_and_model() -> None:
    document = hub_model()
    assert render(document).count("somebody/Big-2507-GGUF-imatrix") == 2 * (2 + FETCHED)
    document["recipe"]["document"]["card"]["repo"] = "Else_where/Big"
    card = render(document)
    assert card.count("Else_where/Big") == 2 * (2 + FETCHED) and "\n# Big\n" in card
    assert "Big-2507-GGUF-imatrix" not in card


def test_llama_cpp_is_told_the_quant_or_where_that_finds_none_the_file() -> None:
    document = hub_model()
    assert render(document).count("-hf somebody/Big-2507-GGUF-imatrix:Q4_K_M") == 2 * FETCHED
    document["quants"][0]["file"]["name"] = "Big-2507-Q4_K_M-imatrix.gguf"
    card = render(document)
    assert card.count("-hf somebody/Big-2507-GGUF-imatrix -hff Big-2507-Q4_K_M-imatrix.gguf") == 2 * FETCHED
    assert ":Q4_K_M" not in card and "`imatrix` in its name" in card


def test_vendor_scores_or_none() -> None:
    assert render(hub_model()).count("| AIME25 | 81.3 |") == 2
    assert "None published." in render(generated_model())


@every_kind
def test_it_is_served_with_the_flags_that_everything_is_measured_with(kind: Callable[[], Manifest]) -> None:
    document = kind()
    context = document["recipe"]["document"]["card"]["chat"]["context"]
    counted = {4: ("四路", "four conversations")}[PARALLEL]
    for half, words in zip(halves(render(document)), counted, strict=True):
        assert f" \\\n  {' '.join(serving_flags(context))}\n" in half
        assert f"`--parallel {PARALLEL}`" in half and words in half and f"{context // PARALLEL:,}" in half
