"""requant.audit.metadata.comparison: what each change to a GGUF's metadata means; the converter itself is asked in e2e."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from requant.audit.answers import MetadataAnswer
from requant.audit.metadata.comparison import Grade, compare_metadata, expected_from_gguf, reads
from requant.audit.status import Metadata
from requant.conversion.metadata import expected_metadata
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.formats.gguf_values import WIDTH, differing, shown
from support.metadata_changes import HONEST, TAMPERED, TEMPLATES, Row, ids
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
from support.vocabularies import VOCABULARIES

pytestmark = pytest.mark.usefixtures("small_vocabulary")


def test_a_release_has_no_serious_finding() -> None:
    expected = expected_metadata(checkpoint())
    assert not expected.unknown
    found = compare_metadata(header(subject(expected)), expected)
    assert [(finding.key, finding.grade) for finding in found.findings] == [("general.name", Grade.HARMLESS)]
    assert len(found.equal) == len(subject(expected)) - len(SUBJECT)


def test_sizes_of_modules_beside_a_model_are_unchecked() -> None:
    expected = expected_from_gguf(header({"general.architecture": text("gemma-embedding")}))
    keys = {
        f"gemma-embedding.{key}": Field(U32, 768) for key in ("dense_2_feat_in", "dense_3_feat_out", "dense_4_feat_in")
    }
    found = compare_metadata(header({"general.architecture": text("gemma-embedding"), **keys}), expected)
    grades = [finding.grade for finding in found.findings]
    assert grades == [Grade.UNCHECKED, Grade.UNCHECKED, Grade.SERIOUS]


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


def judged(row: Row) -> tuple[MetadataAnswer, set[str]]:
    """The answer about a header that the row changed, and the keys that are not simply equal."""
    expected = expected_metadata(row.files)
    assert not expected.unknown
    before = {key: value for key, value in expected.values.items() if key not in expected.implied}
    assert compare_metadata(header(before), expected).findings == ()
    after = dict(before)
    row.change(after)
    findings = compare_metadata(header(after), expected).findings
    touched = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    for each in findings:
        assert each.sentence.startswith(each.key) and each.expected != each.actual
        for words in (each.expected, each.actual, each.sentence):
            assert words.isprintable() and len(words) <= 2 * WIDTH
    return MetadataAnswer(findings), touched


@pytest.mark.parametrize("name", HONEST)
def test_what_honest_files_hold_is_harmless_and_said(name: str) -> None:
    answer, touched = judged(HONEST[name])
    assert {finding.key: finding.grade for finding in answer.findings} == dict.fromkeys(touched, Grade.HARMLESS)
    assert answer.status is Metadata.HARMLESS and "harmless difference" in answer.sentence
    over = {finding.key for finding in answer.findings if finding.passed_over}
    read = sorted(key for key in touched if key not in over and reads(key))
    assert len(read) > 3 or all(key in answer.sentence for key in read)


@pytest.mark.parametrize("name", TAMPERED)
def test_what_is_planted_is_found(name: str) -> None:
    answer, touched = judged(TAMPERED[name])
    assert {finding.key for finding in answer.findings if finding.grade is Grade.SERIOUS} == touched
    assert answer.status is Metadata.CHANGED
    assert any(key in answer.sentence for key in touched)


def test_padding_of_a_gguf_as_the_source_may_be_typed_as_older_converters_did() -> None:
    expected = expected_metadata(checkpoint())
    key, older = "tokenizer.ggml.token_type", dict(expected.values)
    HONEST["`[PAD…]` typed user-defined instead of unused"].change(older)
    found = compare_metadata(header(expected.values), expected_from_gguf(header(older))).findings
    assert [(each.key, each.grade) for each in found] == [(key, Grade.HARMLESS)]
    changed = older | {key: item(expected.values[key], 8, 1)}
    found = compare_metadata(header(changed), expected_from_gguf(header(older))).findings
    assert [(each.key, each.grade) for each in found] == [(key, Grade.SERIOUS)]


def test_a_gguf_of_an_older_converter_as_the_source() -> None:
    """A quant that a newer one made says more: what follows from the rest is harmless, sampling cannot be told."""
    for files in (checkpoint(), VOCABULARIES["Llama 2"]):
        newer = expected_metadata(files).values
        newer = newer | {"general.sampling.temp": Field(ValueType.FLOAT32, 0.5)}
        drop = ("general.type", "general.sampling.", "vocab_size", "rope.dimension_count", "add_bos_token", "_length")
        older = {
            key: value for key, value in newer.items() if not any(part in key for part in drop) or "context" in key
        }
        older |= {key: newer[key] for key in newer if "embedding_length" in key or "feed_forward" in key}
        findings = compare_metadata(header(newer), expected_from_gguf(header(older))).findings
        grades = {each.key: each.grade for each in findings}
        sampling = {key for key in newer if key.startswith("general.sampling.")}
        assert grades == dict.fromkeys(newer.keys() - older.keys(), Grade.HARMLESS) | dict.fromkeys(
            sampling, Grade.UNCHECKED
        )
        wrong = newer | {f"{newer['general.architecture'].value}.vocab_size": Field(U32, 7)}
        grades = {
            each.key: each.grade for each in compare_metadata(header(wrong), expected_from_gguf(header(older))).findings
        }
        assert [key for key, grade in grades.items() if grade is Grade.SERIOUS] == [
            f"{newer['general.architecture'].value}.vocab_size"
        ]


def test_a_gguf_as_the_source_tells_neither_all_ends_nor_where_templates_stood() -> None:
    ends = "tokenizer.ggml.eos_token_ids"
    values = expected_metadata(TEMPLATES).values
    named = {key for key in values if "chat_template" in key} - {"tokenizer.chat_template"}
    source = expected_from_gguf(header(values))
    default = {key: field for key, field in values.items() if key not in named}
    for metadata, grades in (
        (default, dict.fromkeys(named, Grade.UNCHECKED)),
        ({key: field for key, field in default.items() if "chat_template" not in key},
         dict.fromkeys({*named, "tokenizer.chat_template"}, Grade.HARMLESS)),
        (values | {ends: ids(7)}, {ends: Grade.HARMLESS}),
        (values | {ends: ids(7, 3)}, {ends: Grade.UNCHECKED}),
        (values | {ends: text("7")}, {ends: Grade.UNCHECKED}),
    ):  # fmt: skip
        found = compare_metadata(header(metadata), source).findings
        assert {each.key: each.grade for each in found} == grades
    source = expected_from_gguf(header(values | {ends: ids(7, 6)}))
    for listed, grade in ((ids(6), Grade.SERIOUS), (ids(3), Grade.SERIOUS)):
        found = compare_metadata(header(values | {ends: listed}), source).findings
        assert [(each.key, each.grade) for each in found] == [(ends, grade)]


@pytest.mark.parametrize(("texts", "key", "number", "grade"), [
    ({}, "eot", 7, Grade.HARMLESS), ({}, "eom", 6, Grade.SERIOUS), ({4: "<|eom_id|>"}, "eom", 4, Grade.HARMLESS),
    ({4: "<PRE>"}, "fim_pre", 4, Grade.HARMLESS), ({4: "<PRE>"}, "prefix", 4, Grade.HARMLESS),
    ({4: "<PRE>", 5: "<fim_prefix>"}, "fim_pre", 4, Grade.SERIOUS), ({}, "fim_pad", 7, Grade.SERIOUS),
    ({4: "<PRE>"}, "bos", 4, Grade.SERIOUS),
])  # fmt: skip
def test_an_added_id_of_a_token(texts: dict[int, str], key: str, number: int, grade: Grade) -> None:
    """llama.cpp finds some by their texts; of several that end no turn it takes any."""
    expected, key = expected_metadata(checkpoint()), f"tokenizer.ggml.{key}_token_id"
    for place, token in texts.items():
        expected.values["tokenizer.ggml.tokens"] = item(expected.values["tokenizer.ggml.tokens"], place, token)
    for kind, wanted in ((U32, grade), (ValueType.INT32, Grade.SERIOUS)):
        found = compare_metadata(header(expected.values | {key: Field(kind, number)}), expected).findings
        assert [(each.key, each.grade) for each in found] == [(key, wanted)]


SCALED = {"qwen3.rope.scaling.type": text("linear"), "qwen3.rope.scaling.factor": Field(ValueType.FLOAT32, 4.0)}


@pytest.mark.parametrize(("before", "after", "grades"), [
    ({}, {"type": "none"}, [Grade.HARMLESS]), ({}, {"type": "linear"}, [Grade.HARMLESS]),
    ({}, {"type": "yarn"}, [Grade.SERIOUS]), ({}, {"type": "none", "factor": 4.0}, [Grade.SERIOUS] * 2),
    (SCALED, {"factor": 4.0}, [Grade.HARMLESS]), (SCALED, {}, [Grade.HARMLESS, Grade.SERIOUS]),
    (SCALED, {"type": "none", "factor": 4.0}, [Grade.SERIOUS]),
])  # fmt: skip
def test_a_kind_of_rope_scaling(before: dict[str, Field], after: dict[str, str | float], grades: list[Grade]) -> None:
    """Without a factor none is the same as linear, which llama.cpp assumes; with one it turns the factor off."""
    expected = expected_metadata(checkpoint())
    values = dict(expected.values)
    expected.values |= before
    for part, value in after.items():
        made = text(value) if isinstance(value, str) else Field(ValueType.FLOAT32, value)
        values[f"qwen3.rope.scaling.{part}"] = made
    found = compare_metadata(header(values), expected).findings
    assert [each.grade for each in found] == grades


def test_code_llamas_ids_may_stand_there_and_no_others() -> None:
    expected = expected_metadata(VOCABULARIES["CodeLlama"])
    values = {key: value for key, value in expected.values.items() if key not in expected.implied}
    for number, grades in ((32007, []), (32008, [Grade.SERIOUS])):
        found = compare_metadata(header(values | {"tokenizer.ggml.prefix_token_id": Field(U32, number)}), expected)
        assert [each.grade for each in found.findings] == grades


def test_what_is_unsure_beside_padding_is_unchecked() -> None:
    expected = expected_metadata(checkpoint(added_tokens__json={"<x>": 8}))
    key = "tokenizer.ggml.tokens"
    changed = item(item(expected.values[key], 8, "<y>"), 15, "[PAD1]")
    for field, grade in ((changed, Grade.UNCHECKED), (item(changed, 0, "z"), Grade.SERIOUS)):
        found = compare_metadata(header(expected.values | {key: field}), expected).findings
        assert [(each.key, each.grade) for each in found] == [(key, grade)]


def test_tables_hold_both_kinds_of_vocabularies() -> None:
    for rows in (HONEST, TAMPERED):
        models = {expected_metadata(row.files).values["tokenizer.ggml.model"].value for row in rows.values()}
        assert models == {"gpt2", "llama"}


Change = Callable[[dict[str, Field]], Field | None]
CHANGES: dict[str, tuple[str, Change, Grade | None]] = {
    "fewer merges": ("tokenizer.ggml.merges", lambda kv: replace(kv["tokenizer.ggml.merges"], value=["a b"]), Grade.SERIOUS),
    "rope base of another type": ("qwen3.rope.freq_base", lambda kv: Field(ValueType.FLOAT64, 1e6), Grade.SERIOUS),
    "rope dimensions as assumed": ("qwen3.rope.dimension_count", lambda kv: Field(U32, 64), None),
    "other rope dimensions": ("qwen3.rope.dimension_count", lambda kv: Field(U32, 32), Grade.SERIOUS),
    "heads": ("qwen3.attention.head_count", lambda kv: Field(U32, 2), Grade.SERIOUS),
    "no architecture": ("general.architecture", lambda kv: None, Grade.SERIOUS),
    "type": ("general.type", lambda kv: text("adapter"), Grade.SERIOUS),
    "tags": ("general.tags", lambda kv: Field(ValueType.ARRAY, ["x"], ValueType.STRING), Grade.HARMLESS),
    "alignment": ("general.alignment", lambda kv: Field(U32, 64), Grade.HARMLESS),
    "of another architecture": ("llama.block_count", lambda kv: Field(U32, 1), Grade.HARMLESS),
    "causal as assumed": ("qwen3.attention.causal", lambda kv: Field(ValueType.BOOL, True), Grade.HARMLESS),
    "not causal": ("qwen3.attention.causal", lambda kv: Field(ValueType.BOOL, False), Grade.SERIOUS),
    "no key-value heads": ("qwen3.attention.head_count_kv", lambda kv: None, Grade.SERIOUS),
    "an added padding id that is a text": ("tokenizer.ggml.padding_token_id", lambda kv: text("6"), Grade.SERIOUS),
    "a name that llama.cpp splits texts by": ("general.name", lambda kv: text("Qwen3 mixed with Phi-3"), Grade.UNCHECKED),
    "a name that is no text": ("general.name", lambda kv: Field(U32, 7), Grade.UNCHECKED),
    "a number for one token": ("tokenizer.ggml.scores", lambda kv: Field(ValueType.ARRAY, np.zeros(1, "<f4"), ValueType.FLOAT32), Grade.UNCHECKED),
    "padding id of another type": ("tokenizer.ggml.padding_token_id", lambda kv: Field(ValueType.INT32, 6), Grade.SERIOUS),
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
    else:
        assert (found[key].grade, key in comparison.equal) == (grade, False)


@pytest.mark.parametrize(("name", "grade"), [(None, Grade.UNCHECKED), ("other", Grade.UNCHECKED), ("mini PHI3", None)])
def test_a_name_that_llama_cpp_splits_texts_by(name: str | None, grade: Grade | None) -> None:
    expected = expected_metadata(checkpoint())
    expected = replace(expected, values={**expected.values, "general.name": text("Phi-3 mini")})
    metadata = {key: field for key, field in subject(expected).items() if key != "general.name"}
    metadata |= {"general.name": text(name)} if name else {}
    found = {each.key: each.grade for each in compare_metadata(header(metadata), expected).findings}
    assert found["general.name"] is (grade or Grade.HARMLESS)


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
        ("qwen3.block_count", Grade.SERIOUS), ("general.name", Grade.HARMLESS), ("general.sampling.temp", Grade.HARMLESS),
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


def test_what_llama_cpp_passes_over_is_not_said_to_be_read() -> None:
    """Keys of another architecture, of no program, and what no tokenizer reads."""
    expected = expected_metadata(checkpoint())
    added = {"llama.rope.freq_base": Field(U32, 1), "Tokenizer.x": text("x"), "tokenizer.huggingface.json": text("{}")}
    metadata = subject(expected) | added | {"tokenizer.ggml.padding_token_id": Field(U32, 5)}
    answer = MetadataAnswer(compare_metadata(header(metadata), expected).findings)
    assert answer.sentence.endswith(
        "but for 5 harmless differences (tokenizer.ggml.padding_token_id among what llama.cpp reads)"
    )
