"""requant.audit.metadata: what each change to a GGUF's metadata means; the converter itself is asked in e2e."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from requant.audit.metadata import Grade, compare_metadata, expected_from_gguf
from requant.conversion.metadata import expected_metadata
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.formats.gguf_values import WIDTH, differing, shown
from support.relabelled import text
from support.small_checkpoint import (
    ADDED,
    BASE,
    MERGES,
    ROWS,
    SLOW,
    SUBJECT,
    TEMPLATE,
    U32,
    checkpoint,
    header,
    item,
    subject,
)

pytestmark = pytest.mark.usefixtures("small_vocabulary")


def test_a_release_has_no_serious_finding() -> None:
    expected = expected_metadata(checkpoint())
    assert not expected.unknown
    found = compare_metadata(header(subject(expected)), expected)
    assert [(finding.key, finding.grade) for finding in found.findings] == [("general.name", Grade.HARMLESS)]
    assert len(found.equal) == len(subject(expected)) - len(SUBJECT)


def test_what_is_expected_of_a_checkpoint() -> None:
    values = expected_metadata(checkpoint()).values
    plain = {key: field.value for key, field in values.items() if field.item is None}
    assert plain == {
        "general.architecture": "qwen3", "general.type": "model", "general.sampling.top_k": 20,
        "general.sampling.temp": float(np.float32(0.6)), "qwen3.block_count": 2, "qwen3.embedding_length": 256,
        "qwen3.feed_forward_length": 768, "qwen3.attention.head_count": 4, "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 64, "qwen3.attention.value_length": 64, "qwen3.rope.dimension_count": 64,
        "qwen3.vocab_size": ROWS, "qwen3.context_length": 4096, "qwen3.rope.freq_base": 1e6,
        "qwen3.attention.layer_norm_rms_epsilon": float(np.float32(1e-6)), "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.bos_token_id": 6,
        "tokenizer.ggml.eos_token_id": 7, "tokenizer.ggml.padding_token_id": 6, "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }  # fmt: skip
    assert values["tokenizer.ggml.merges"].value == MERGES
    assert values["tokenizer.ggml.tokens"].value == [
        *BASE,
        *(text for text, _ in ADDED.values()),
        *(f"[PAD{index}]" for index in range(9, ROWS)),
    ]
    types = values["tokenizer.ggml.token_type"].value
    assert isinstance(types, np.ndarray) and types.tolist() == [1] * 6 + [3, 3, 4] + [5] * 7


def test_vocab_and_merges_give_the_same_but_for_what_the_other_file_tells() -> None:
    fast, slow = expected_metadata(checkpoint()), expected_metadata(checkpoint(**SLOW))
    assert fast.values.keys() - slow.values.keys() == {
        "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.add_eos_token",
    }
    assert all(fast.values[key] == value for key, value in slow.values.items())


Change = Callable[[dict[str, Field]], Field | None]
CHANGES: dict[str, tuple[str, Change, Grade | None]] = {
    "template": ("tokenizer.chat_template", lambda kv: text(TEMPLATE.replace("use", "ignore")), Grade.SERIOUS),
    "template's last line end": ("tokenizer.chat_template", lambda kv: text(TEMPLATE.rstrip()), Grade.SERIOUS),
    "no template": ("tokenizer.chat_template", lambda kv: None, Grade.SERIOUS),
    "another template": ("tokenizer.chat_template.tool_use", lambda kv: text("x"), Grade.SERIOUS),
    "token": ("tokenizer.ggml.tokens", lambda kv: item(kv["tokenizer.ggml.tokens"], 3, "ba"), Grade.SERIOUS),
    "special token": ("tokenizer.ggml.tokens", lambda kv: item(kv["tokenizer.ggml.tokens"], 7, "<|end|>"), Grade.SERIOUS),
    "padding token": ("tokenizer.ggml.tokens", lambda kv: item(kv["tokenizer.ggml.tokens"], 15, "<|x|>"), Grade.SERIOUS),
    "token type": ("tokenizer.ggml.token_type", lambda kv: item(kv["tokenizer.ggml.token_type"], 8, 3), Grade.SERIOUS),
    "merge": ("tokenizer.ggml.merges", lambda kv: item(kv["tokenizer.ggml.merges"], 1, "a bc"), Grade.SERIOUS),
    "fewer merges": ("tokenizer.ggml.merges", lambda kv: replace(kv["tokenizer.ggml.merges"], value=["a b"]), Grade.SERIOUS),
    "pre": ("tokenizer.ggml.pre", lambda kv: text("gpt-2"), Grade.SERIOUS),
    "eos": ("tokenizer.ggml.eos_token_id", lambda kv: Field(U32, 6), Grade.SERIOUS),
    "no eos": ("tokenizer.ggml.eos_token_id", lambda kv: None, Grade.SERIOUS),
    "eot": ("tokenizer.ggml.eot_token_id", lambda kv: Field(U32, 7), Grade.SERIOUS),
    "add bos": ("tokenizer.ggml.add_bos_token", lambda kv: Field(ValueType.BOOL, True), Grade.SERIOUS),
    "no add_bos": ("tokenizer.ggml.add_bos_token", lambda kv: None, Grade.HARMLESS),
    "no add_eos": ("tokenizer.ggml.add_eos_token", lambda kv: None, Grade.HARMLESS),
    "space before": ("tokenizer.ggml.add_space_prefix", lambda kv: Field(ValueType.BOOL, True), Grade.SERIOUS),
    "rope base": ("qwen3.rope.freq_base", lambda kv: Field(ValueType.FLOAT32, 5e6), Grade.SERIOUS),
    "rope base of another type": ("qwen3.rope.freq_base", lambda kv: Field(ValueType.FLOAT64, 1e6), Grade.SERIOUS),
    "no rope base": ("qwen3.rope.freq_base", lambda kv: None, Grade.SERIOUS),
    "rope scaling": ("qwen3.rope.scaling.type", lambda kv: text("yarn"), Grade.SERIOUS),
    "rope dimensions as assumed": ("qwen3.rope.dimension_count", lambda kv: Field(U32, 64), None),
    "other rope dimensions": ("qwen3.rope.dimension_count", lambda kv: Field(U32, 32), Grade.SERIOUS),
    "epsilon": ("qwen3.attention.layer_norm_rms_epsilon", lambda kv: Field(ValueType.FLOAT32, 1e-5), Grade.SERIOUS),
    "context": ("qwen3.context_length", lambda kv: Field(U32, 8192), Grade.SERIOUS),
    "heads": ("qwen3.attention.head_count", lambda kv: Field(U32, 2), Grade.SERIOUS),
    "sliding window": ("qwen3.attention.sliding_window", lambda kv: Field(U32, 128), Grade.SERIOUS),
    "architecture": ("general.architecture", lambda kv: text("qwen2"), Grade.SERIOUS),
    "no architecture": ("general.architecture", lambda kv: None, Grade.SERIOUS),
    "type": ("general.type", lambda kv: text("adapter"), Grade.SERIOUS),
    "no type": ("general.type", lambda kv: None, Grade.HARMLESS),
    "sampling": ("general.sampling.temp", lambda kv: Field(ValueType.FLOAT32, 2.0), Grade.SERIOUS),
    "more sampling": ("general.sampling.min_p", lambda kv: Field(ValueType.FLOAT32, 0.5), Grade.SERIOUS),
    "no sampling": ("general.sampling.temp", lambda kv: None, Grade.HARMLESS),
    "name": ("general.name", lambda kv: text("Large"), Grade.HARMLESS),
    "url": ("general.url", lambda kv: text("https://x.y"), Grade.HARMLESS),
    "tags": ("general.tags", lambda kv: Field(ValueType.ARRAY, ["x"], ValueType.STRING), Grade.HARMLESS),
    "alignment": ("general.alignment", lambda kv: Field(U32, 64), Grade.HARMLESS),
    "unknown": ("acme.secret", lambda kv: Field(U32, 1), Grade.HARMLESS),
    "of another architecture": ("llama.block_count", lambda kv: Field(U32, 1), Grade.HARMLESS),
}  # fmt: skip


@pytest.mark.parametrize(("key", "change", "grade"), CHANGES.values(), ids=CHANGES)
def test_a_change(key: str, change: Change, grade: Grade | None) -> None:
    expected = expected_metadata(checkpoint())
    metadata = subject(expected)
    changed = change(metadata)
    metadata = {name: field for name, field in metadata.items() if name != key} | ({key: changed} if changed else {})
    comparison = compare_metadata(header(metadata), expected)
    found = {finding.key: finding for finding in comparison.findings}
    assert found.keys() - {"general.name", key} == set()
    if grade is None:
        assert key in comparison.equal and key not in found
        return
    finding = found[key]
    assert (finding.grade, key in comparison.equal) == (grade, False)
    assert finding.sentence.startswith(key) and "\n" not in finding.sentence
    assert finding.expected != finding.actual
    for shown_text in (finding.expected, finding.actual, finding.sentence):
        assert shown_text.isprintable() and len(shown_text) <= 2 * WIDTH


def test_keys_of_the_claimed_architecture_are_serious_too() -> None:
    expected = expected_metadata(checkpoint())
    metadata = subject(expected) | {"general.architecture": text("llama"), "llama.block_count": Field(U32, 2)}
    serious = {
        finding.key
        for finding in compare_metadata(header(metadata), expected).findings
        if finding.grade is Grade.SERIOUS
    }
    assert serious == {"general.architecture", "llama.block_count"}


@pytest.mark.parametrize(("key", "field"), [
    ("general.file_type", Field(U32, 7)), ("general.file_type", None), ("general.quantization_version", Field(U32, 1)),
    ("quantize.imatrix.entries_count", Field(U32, 15)), ("quantize.imatrix.file", text("x")),
    ("split.count", Field(ValueType.UINT16, 3)),
])  # fmt: skip
def test_what_llama_quantize_sets_belongs_to_the_recipe(key: str, field: Field | None) -> None:
    """See test_recipe.py: weights say nothing about it."""
    expected = expected_metadata(checkpoint())
    metadata = {name: value for name, value in subject(expected).items() if name != key} | (
        {key: field} if field else {}
    )
    for of in (expected, expected_from_gguf(header(subject(expected)))):
        comparison = compare_metadata(header(metadata), of)
        assert {finding.key for finding in comparison.findings} <= {"general.name"}
        assert key not in comparison.equal


def test_a_gguf_as_the_source() -> None:
    expected = expected_metadata(checkpoint())
    source = header(
        subject(expected) | {"general.file_type": Field(U32, 32), "split.count": Field(ValueType.UINT16, 3)}
    )
    assert compare_metadata(header(subject(expected)), expected_from_gguf(source)).findings == ()
    renamed = subject(expected) | {"general.name": text("Other"), "qwen3.block_count": Field(U32, 3)}
    del renamed["general.sampling.temp"]
    found = compare_metadata(header(renamed), expected_from_gguf(source))
    assert [(finding.key, finding.grade) for finding in found.findings] == [
        ("qwen3.block_count", Grade.SERIOUS), ("general.name", Grade.HARMLESS), ("general.sampling.temp", Grade.SERIOUS),
    ]  # fmt: skip


def test_what_is_shown_of_long_values() -> None:
    long = "x" * 200
    assert differing(text(f"{long}a\n"), text(f"{long}b\n"))[:2] == (
        f"line 1: ...'{'x' * 20}a'",
        f"line 1: ...'{'x' * 20}b'",
    )
    assert differing(text("a\nb"), text("a"))[:2] == ("line 2: 'b'", "line 2: (the text has ended)")
    one, other = (
        Field(ValueType.ARRAY, ["a", "b", "c"], ValueType.STRING),
        Field(ValueType.ARRAY, ["a", "x"], ValueType.STRING),
    )
    assert differing(one, other) == ("item 1 of 3: 'b'", "item 1 of 2: 'x'", None)
    assert differing(one, item(one, 2, "\x1b[2J")) == ("item 2 of 3: 'c'", "item 2 of 3: '\\x1b[2J'", {2})
    assert shown(Field(ValueType.ARRAY, [one], ValueType.ARRAY)) == "1 of ARRAY"
    assert differing(Field(U32, 1), Field(ValueType.INT32, 1))[:2] == ("UINT32 1", "INT32 1")
    nan = Field(ValueType.ARRAY, np.array([np.nan], "<f4"), ValueType.FLOAT32)
    assert differing(nan, Field(ValueType.ARRAY, -nan.value, ValueType.FLOAT32))[2] == {0}  # type: ignore[operator]
    assert len(shown(text("\u202e" * 500))) == WIDTH and shown(Field(ValueType.STRING, b"\xff")) == "b'\\xff'"
