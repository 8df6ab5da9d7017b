"""requant.audit.recipe.mix and promises: stock mixes, custom ones, and what label and name say falsely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from requant.audit.metadata.comparison import FILE_TYPE, Grade, MetadataFinding, NamedImatrix, compare_making
from requant.audit.recipe.mix import Made, RecipeAnswer, about_label, answer_mix, with_findings
from requant.audit.recipe.promises import Matrices, hold, promised
from requant.audit.recipe.sanity import MATRIX, Sanity, sanity_of
from requant.audit.status import Mix
from requant.formats.ggml import GGMLType as T
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, Tensor
from requant.ground.exit_codes import ExitCode
from requant.quantization.mix import OLDER, Model, expected_types
from support.mixes import LAYERS, MODEL, NUMBERS, SOURCE, TIED, Source, answered, made, source_of
from support.relabelled import number, text
from support.small_checkpoint import IMATRIX, SUBJECT, header


@pytest.mark.parametrize("source", [SOURCE, TIED, source_of(288)], ids=["untied", "tied", "odd rows"])
@pytest.mark.parametrize("mix", [mix for mix in NUMBERS if mix != "Q1_0"])
def test_every_stock_mix(mix: str, source: Source) -> None:
    """Under its label it is stock; without one it is still found, or another that has the very same types.

    Of Q1_0 llama-quantize can make no odd rows.
    """
    for label in (mix, None):
        found = answered(made(mix, label=label, source=source, name=f"Model-{mix}.gguf"))
        assert (found.status, found.command, found.findings) == (Mix.STOCK, (), ()), found
        assert found.bits == found.stock_bits
        assert label is None or found.mix == mix
        assert found.sentence.endswith("which the header does not say") == (label is None)
        assert found.mix is not None and found.mix in found.sentence


def test_the_fallbacks_of_an_older_llama_cpp_are_stock_too() -> None:
    source = source_of(288)
    types = expected_types(NUMBERS["Q2_K"], source, MODEL, True, OLDER)
    assert types != expected_types(NUMBERS["Q2_K"], source, MODEL, True)
    assert answered(made("Q2_K", types, source=source)).status is Mix.STOCK


def test_counts_agree_with_nouns() -> None:
    one = answered(made("Q4_K_M", {"blk.3.attn_q.weight": T.Q8_0})).sentence
    assert one.startswith("a custom mix: 1 of 58 matrices has another type than Q4_K_M gives it (")
    two = answered(made("Q4_K_M", {"blk.3.attn_q.weight": T.Q8_0, "blk.4.attn_q.weight": T.Q8_0})).sentence
    assert two.startswith("a custom mix: 2 of 58 matrices have other types than Q4_K_M gives them (")


def test_older_choices_are_stock_and_called_so() -> None:
    """Fused attention was chosen for otherwise until 2026; a command is told for the newest version all the same."""
    source = {name.replace("attn_v", "attn_qkv"): each for name, each in SOURCE.items()}
    types = expected_types(NUMBERS["Q4_K_M"], source, MODEL, True, OLDER)
    found = answered(made("Q4_K_M", types, source=source))
    assert found.status is Mix.STOCK
    assert found.sentence.endswith("the stock mix Q4_K_M, as older versions of llama.cpp choose it")
    custom = answered(made("Q4_K_M", types | {"output.weight": T.Q8_0}, source=source))
    assert r"^blk\.[0-9]+\.attn_qkv\.weight$=q5_k" in custom.command


def test_without_a_label_the_nearest_mix_is_found() -> None:
    found = answered(made("Q5_K_M", {"blk.3.attn_q.weight": T.Q8_0}, label=None))
    assert (found.status, found.mix) == (Mix.CUSTOM, "Q5_K_M")


EXPERTS = {name: (shape, T.MXFP4 if name.endswith("ffn_up.weight") else kind) for name, (shape, kind) in SOURCE.items()}
"""As gpt-oss has them: the larger part of the weights is in few bits already."""
KEPT = {"ffn_up.weight": T.MXFP4}
FALSE: dict[str, tuple[Made, str, str]] = {
    "Q2_K labelled Q6_K": (made("Q2_K", label="Q6_K"), FILE_TYPE, "says Q6_K, but the types are exactly those of Q2_K"),
    "Q4_K_S labelled Q4_K_M": (made("Q4_K_S", label="Q4_K_M"), FILE_TYPE, "exactly those of Q4_K_S"),
    "IQ4_XS labelled IQ4_NL": (made("IQ4_XS", label="IQ4_NL"), FILE_TYPE, "exactly those of IQ4_XS"),
    "Q5_K_S in Model-Q5_K_M.gguf": (made("Q5_K_S", name="Model-Q5_K_M.gguf"), "file name", "exactly those of Q5_K_S"),
    "Q5_K_S without label in Model-Q5_K_M.gguf": (
        made("Q5_K_S", label=None, name="Model-Q5_K_M.gguf"), "file name", "exactly those of Q5_K_S",
    ),
    "Q2_K in model-fp16-q4.gguf": (made("Q2_K", name="model-fp16-q4.gguf"), "file name", "says Q4, but inside the blocks the matrices have"),
    "Q2_K in model-q4-f16.gguf": (made("Q2_K", name="model-q4-f16.gguf"), "file name", "the file name says Q4, but"),
    "IQ2_XXS in iq3_model.gguf": (made("IQ2_XXS", name="iq3_model.gguf"), "file name", "the file name says IQ3, but"),
    "Q8_0 labelled BF16": (made("Q8_0", label="BF16"), FILE_TYPE, "no matrix has a type of that mix: they are Q8_0"),
    "Q2_K with one tensor as its name says": (
        made("Q2_K", {"blk.0.attn_q.weight": T.Q5_K, "output.weight": T.Q5_K}, label=None, name="Model-Q5_K_M.gguf"),
        "file name", "the file name says Q5_K_M, but inside the blocks the matrices have",
    ),
    "Q2_K without label in Model-Q6_K.gguf": (made("Q2_K", label=None, name="Model-Q6_K.gguf"), "file name", "the file name says Q6_K"),
    "Q2_K in Model-Q6_K.gguf": (made("Q2_K", name="Model-Q6_K.gguf"), "file name", "the types are exactly those of Q2_K"),
    "Q2_K in model.i1-q6_k.gguf": (made("Q2_K", name="model.i1-q6_k.gguf"), "file name", "the file name says Q6_K"),
    "Q2_K in Model_Q6_K_imatrix.gguf": (made("Q2_K", name="Model_Q6_K_imatrix.gguf"), "file name", "the file name says Q6_K"),
    "Q2_K in Model-Q6_K_L.gguf": (made("Q2_K", name="Model-Q6_K_L.gguf"), "file name", "says Q6_K_L, but inside the blocks the matrices have"),
    "Q2_K in Model-UD-Q4_K_XL.gguf": (made("Q2_K", name="Model-UD-Q4_K_XL.gguf"), "file name", "says Q4_K_XL, but inside the blocks the matrices have"),
    "IQ4_XS in Model-IQ4_NL.gguf": (made("IQ4_XS", name="Model-IQ4_NL.gguf"), "file name", "says IQ4_NL, but"),
    "Q4_K_M in Model-BF16.gguf": (made("Q4_K_M", name="Model-BF16.gguf"), "file name", "says BF16, but"),
    "Q2_K in Model-Q6K.gguf": (made("Q2_K", label=None, name="Model-Q6K.gguf"), "file name", "the file name says Q6_K"),
    "Q2_K in model-q6-k-l.gguf": (made("Q2_K", name="model-q6-k-l.gguf"), "file name", "says Q6_K_L, but inside the blocks the matrices have"),
    "Q2_K in model-fp16.gguf": (made("Q2_K", name="model-fp16.gguf"), "file name", "the file name says F16"),
    "Q4_K_S in Model-Q4_K_M.gguf": (made("Q4_K_S", name="Model-Q4_K_M.gguf"), "file name", "exactly those of Q4_K_S"),
    "a quarter in few bits by the weights, all else by choice": (
        made("Q4_K_M", KEPT, label=None, source=EXPERTS, name="Model-Q8_0.gguf"), "file name", "the file name says Q8_0",
    ),
    "unknown architecture": (
        made("Q2_K", label="Q5_K_S", model=Model("gemma9", LAYERS, 8, 2)), FILE_TYPE, "says Q5_K_S, but no matrix has a type of that mix",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subject", "key", "words"), FALSE.values(), ids=FALSE)
def test_what_the_tensors_deny_is_evidence(subject: Made, key: str, words: str) -> None:
    found = answered(subject)
    [finding] = found.findings
    assert (found.status, found.status.exit_code) == (Mix.CONTRADICTED, ExitCode.AGAINST), found.sentence
    assert (finding.key, finding.grade) == (key, Grade.SERIOUS)
    assert found.sentence == finding.sentence and words in found.sentence


HONEST = {
    "what the weights hold in few bits, beside F16": made("F16", KEPT, source=EXPERTS, name="Model-F16.gguf"),
    "what the weights hold in few bits, beside Q8_0": made("Q8_0", KEPT, source=EXPERTS, name="Model-Q8_0.gguf"),
    "what the weights hold in few bits, beside Q6_K": made("Q6_K", KEPT, source=EXPERTS, name="Model-Q6_K.gguf"),
    "the label that upstream's converter writes": made("BF16", KEPT, label="MXFP4_MOE", source=EXPERTS),
    "the label that upstream's converter writes, kept beside Q4_K_M": made(
        "Q4_K_M", KEPT, label="MXFP4_MOE", source=EXPERTS
    ),
    "an embedding of fewer bits": made("Q8_0", {"token_embd.weight": T.Q4_K}, name="Model-Q8_0.gguf"),
    "imatrix": made("Q4_K_M", name="Model-Q4_K_M-imatrix.gguf"),
    "small letters": made("Q4_K_M", name="model.i1-q4_k_m.gguf"),
    "UD": made("Q4_K_M", {"attn_v.weight": T.Q6_K, "output.weight": T.Q8_0}, name="Model-UD-Q4_K_XL.gguf"),
    "_XL of a type that it has not": made("Q3_K_M", {"attn_q.weight": T.Q4_K}, name="Model-Q3_K_XL.gguf"),
    "the weights' type too": made("Q4_K_M", name="Model-BF16-Q4_K_M.gguf"),
    "the weights' type and a mix of nobody": made("Q4_K_M", {"output.weight": T.Q8_0}, name="Model-F16-Q4_K_L.gguf"),
    "what was changed": made("Q4_K_M", {"output.weight": T.Q8_0}, name="Model-Q4_K_M-output-Q8_0.gguf"),
    "IQ4_XS": made("IQ4_XS", name="Model-IQ4_XS.gguf"),
    "otherwise spelled": made("Q4_K_M", name="model-fp16.q4-k-m.gguf"),
    "bits alone, and the weights' type": made("Q4_K_M", name="model-fp16-q4.gguf"),
    "bits alone, of IQ4_XS": made("IQ4_XS", name="model_q4_imatrix.gguf"),
    "bits alone, of fewer": made("IQ3_XXS", name="Model.IQ3.gguf"),
    "half a billion weights": made("Q2_K", name="Model-Q4-0.5B-Q2K.gguf"),
    "IQ4_XS with odd rows": made("IQ4_XS", source=source_of(288), name="Model-IQ4_XS.gguf"),
    "IQ4_NL": made("IQ4_NL", name="Model-IQ4_NL.gguf"),
    "no quant": made("Q2_K", name="ggml-model.gguf"),
    "another thing": made("Q2_K", name="ModelQ6_K2-IQ4_KS-Q9_X.gguf"),
    "nothing": made("Q2_K", name=""),
}


@pytest.mark.parametrize("subject", HONEST.values(), ids=HONEST)
def test_honest_names_accuse_nobody(subject: Made) -> None:
    found = answered(subject)
    assert (found.status.exit_code, found.findings) == (ExitCode.OK, ()), found.sentence


@pytest.mark.parametrize(("share", "kept"), [(0.86, True), (0.84, False), (1.2, True)])
@pytest.mark.parametrize(("name", "kind"), [("Model-Q6_K_L.gguf", T.Q6_K), ("Model-Q4_K_M.gguf", T.Q4_K)])
def test_a_name_must_have_85_percent_of_the_bits_that_it_promises(name: str, kind: T, share: float, kept: bool) -> None:
    bits = share * 8 * kind.type_size / kind.block_size
    found = [
        *hold(None, name, Matrices(frozenset({kind, T.Q2_K}), frozenset({512}), bits, (), {}, frozenset(), frozenset()))
    ]
    assert [each.grade for each in found] == ([] if kept else [Grade.SERIOUS])


MORE: dict[str, tuple[Made, str]] = {
    "Q6_K labelled Q2_K": (made("Q6_K", label="Q2_K"), "no matrix has a type of that mix: they are Q6_K"),
    "Q8_0 labelled Q4_K_M": (made("Q8_0", label="Q4_K_M"), "no matrix has a type of that mix: they are Q8_0"),
    "F16 labelled Q8_0": (made("F16", label="Q8_0"), "no matrix has a type of that mix: they are F16"),
}


@pytest.mark.parametrize(("subject", "words"), MORE.values(), ids=MORE)
def test_more_than_the_label_promises_is_said_and_no_evidence(subject: Made, words: str) -> None:
    found = answered(subject)
    assert (found.status, [each.grade for each in found.findings]) == (Mix.STOCK, [Grade.HARMLESS]), found.sentence
    assert f"; {FILE_TYPE} says " in found.sentence and words in found.sentence


@pytest.mark.parametrize(
    ("mix", "label"), [("IQ4_NL", "IQ4_XS"), ("Q4_1", "Q4_K_M"), ("IQ4_NL", "Q4_K_S"), ("Q5_0", "Q5_K_S")]
)
def test_hardly_more_bits_of_other_types_keep_0_away(mix: str, label: str) -> None:
    """Options give such files, and so does whoever sells the worse for the better."""
    found = answered(made(mix, label=label, name=f"Model-{label}.gguf"))
    assert (found.status, found.findings[0].grade) == (Mix.UNCHECKED, Grade.UNCHECKED), found.sentence


@pytest.mark.parametrize(("mix", "label", "grade"), [
    ("Q5_K_S", "Q5_K_M", Grade.HARMLESS), ("Q3_K_S", "Q3_K_M", Grade.HARMLESS), ("Q3_K_S", "Q3_K_L", Grade.UNCHECKED),
])  # fmt: skip
@pytest.mark.parametrize("named", [False, True])
def test_what_pure_makes_of_a_mix_is_no_evidence(mix: str, label: str, grade: Grade, named: bool) -> None:
    """``llama-quantize --pure --output-tensor-type q6_k ... Q5_K_M`` writes that label beside the types of Q5_K_S."""
    found = answered(made(mix, label=label, name=f"Model-{label}.gguf" if named else "Model.gguf"))
    assert [(each.key, each.grade) for each in found.findings] == [
        (key, grade) for key in (FILE_TYPE, "file name")[: 1 + named]
    ]
    assert found.findings[0].sentence == f"{FILE_TYPE} says {label}, but by options such as --pure it equals {mix}"
    assert found.status is (Mix.STOCK if grade is Grade.HARMLESS else Mix.UNCHECKED)


def test_a_label_may_have_few_tensors_of_its_type() -> None:
    """``llama-quantize --tensor-type ffn=iq4_nl ... Q8_0`` writes such a file; how few bits it has is said."""
    lowered = dict.fromkeys(("ffn_up.weight", "ffn_down.weight", "ffn_gate.weight", "attn_q.weight"), T.IQ4_NL)
    found = answered(made("Q8_0", lowered))
    assert (found.status, found.findings) == (Mix.CUSTOM, ())
    assert "(6.37 bits per weight, Q8_0 has 8.50)" in found.sentence


def test_more_than_the_name_promises_is_said_and_no_evidence() -> None:
    """Such as a model that was trained for Q4_0, and is published in BF16."""
    found = answered(made("BF16", name="model-qat-q4_0-unquantized.gguf", imatrix=False))
    assert (found.status, [each.grade for each in found.findings]) == (Mix.STOCK, [Grade.HARMLESS])
    assert found.sentence.endswith("; the file name says Q4_0, but no matrix has a type of that mix: they are BF16")


def test_what_a_name_promises() -> None:
    assert promised("m-Q6_\u212a.gguf") == [], "the Kelvin sign is no K"
    assert [(each.word, each.number) for each in promised("A-F16_q4_k_m.IQ2_XXS-Q5_K_L-Q4_K.gguf")] == [
        ("F16", 1), ("Q4_K_M", 15), ("IQ2_XXS", 19), ("Q5_K_L", None), ("Q4_K", None),
    ]  # fmt: skip


UNCHECKED: dict[str, tuple[Made, str]] = {
    "unknown architecture": (made("Q4_K_M", model=Model("gemma9", LAYERS, 8, 2)), "architecture 'gemma9' is not known"),
    "a norm in F16": (made("Q4_K_M", {"blk.2.attn_norm.weight": T.F16}), "leaves blk.2.attn_norm.weight in another type"),
    "a mix that is refused": (
        made("Q2_K", {"blk.0.attn_q.weight": T.Q3_K}, label="Q2_K_S", imatrix=False),
        "llama-quantize refuses Q2_K_S without an importance matrix",
    ),
    "no matrix at all": (
        replace(made("Q4_K_M"), tensors=[Tensor("output_norm.weight", (512,), T.F32, 0, 0)]), "it has none of the weights' matrices",
    ),
    "other tensors": (
        replace(made("Q4_K_M"), tensors=[Tensor("x.weight", (512, 2), T.Q4_K, 0, 0)]), "it has none of the weights' matrices",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("subject", "words"), UNCHECKED.values(), ids=UNCHECKED)
def test_what_cannot_be_told_is_unchecked(subject: Made, words: str) -> None:
    found = answered(subject)
    assert (found.status, found.mix, found.command) == (Mix.UNCHECKED, None, ()), found.sentence
    assert words in found.sentence


def test_types_that_need_an_importance_matrix_say_that_there_was_one() -> None:
    """A header without quantize.imatrix makes nothing unchecked."""
    for label in ("IQ2_XXS", None):
        found = answered(replace(made("IQ2_XXS", label=label), imatrix=False))
        assert (found.status, found.mix) == (Mix.STOCK, "IQ2_XXS")


# The header's own words.


def labelled(field: Field | None, subject: Made) -> RecipeAnswer:
    """The answer about a subject whose header has this general.file_type."""
    mix = answer_mix(replace(subject, label=None if field is None or not isinstance(field.value, int) else field.value))
    return with_findings(mix, None, [*mix.findings, *about_label(header({FILE_TYPE: field} if field else {}))])


@pytest.mark.parametrize(("field", "words"), [
    (number(99), "says file type 99, a mix that requant does not know"),
    (number(39), "says NVFP4, a mix that requant does not know"),
    (text("15"), "is of the type STRING, not UINT32"),
    (Field(ValueType.INT32, 15), "is of the type INT32, not UINT32"),
])  # fmt: skip
def test_an_unknown_label_is_unchecked(field: Field, words: str) -> None:
    """The mix is told all the same; stock or custom."""
    for changes, start in (
        ({}, "the types are those of the stock mix Q4_K_M"),
        ({"attn_v.weight": T.Q8_0}, "a custom mix"),
    ):
        found = labelled(field, made("Q4_K_M", changes))
        assert (found.status, [each.key for each in found.findings]) == (Mix.UNCHECKED, [FILE_TYPE])
        assert found.sentence.startswith(start) and words in found.sentence


@pytest.mark.parametrize("field", [None, number(15)])
def test_a_known_label_or_none(field: Field | None) -> None:
    assert about_label(header({FILE_TYPE: field} if field else {})) == []
    assert labelled(field, made("Q4_K_M")).status is Mix.STOCK


MAKING: dict[str, tuple[str, Field | None, Grade | None]] = {
    "nothing": ("general.name", None, None),
    "quantization version": ("general.quantization_version", number(1), Grade.SERIOUS),
    "entries": ("quantize.imatrix.entries_count", number(15), Grade.SERIOUS),
    "chunks, signed": ("quantize.imatrix.chunks_count", Field(ValueType.INT32, 100), None),
    "chunks": ("quantize.imatrix.chunks_count", text("100"), Grade.SERIOUS),
    "file": ("quantize.imatrix.file", text("/home/me/imatrix.dat"), Grade.HARMLESS),
    "split": ("split.count", Field(ValueType.UINT16, 0), Grade.HARMLESS),
    "file type": (FILE_TYPE, number(7), None),
}  # fmt: skip


@pytest.mark.parametrize(("key", "field", "grade"), MAKING.values(), ids=MAKING)
def test_the_keys_that_llama_quantize_sets(key: str, field: Field | None, grade: Grade | None) -> None:
    found = {
        each.key: each.grade for each in compare_making(header(SUBJECT | ({key: field} if field else {})), IMATRIX)
    }
    assert found.pop("quantize.imatrix.file") is Grade.HARMLESS or key == "quantize.imatrix.file"
    assert found == ({key: grade} if grade and key != "quantize.imatrix.file" else {})


@pytest.mark.parametrize(("untold", "right"), [(0, [252]), (2, [250, 251, 252])])
def test_entries_of_which_nothing_shows_may_have_been_kept(untold: int, right: list[int]) -> None:
    """``--exclude-weights`` lowers the number that is noted, and a tensor in Q8_0 is the same with and without."""
    for count in range(249, 254):
        found = compare_making(header({COUNTS[0]: number(count)}), NamedImatrix(252, 100, untold))
        assert [each.grade for each in found] == ([] if count in right else [Grade.SERIOUS])
        assert all(each.expected == ("252" if not untold else "250 to 252") for each in found)


def test_a_matrix_of_which_no_tensor_shows_a_trace_contradicts_nothing() -> None:
    """As beside a quant in Q8_0, where a matrix that was measured again lies."""
    assert compare_making(header({COUNTS[0]: number(252)}), NamedImatrix(252, 99, 252, used=False)) == ()
    found = compare_making(header({COUNTS[1]: number(100)}), NamedImatrix(252, 99, 252, used=False))
    assert [each.grade for each in found] == [Grade.UNCHECKED]
    assert [each.grade for each in compare_making(header({COUNTS[1]: number(100)}), NamedImatrix(252, 99))] == [
        Grade.SERIOUS
    ]


def test_a_false_count_is_evidence_of_the_recipe() -> None:
    mix = answer_mix(made("Q4_K_M"))
    found = with_findings(mix, None, compare_making(header(SUBJECT), NamedImatrix(14, 99)))
    assert (found.status, found.mix) == (Mix.CONTRADICTED, "Q4_K_M")
    assert found.sentence == "quantize.imatrix.chunks_count contradicts the named importance matrix"


DEAD = (np.arange(256) % 32 == 0).astype(np.float32)
COUNTS = ("quantize.imatrix.entries_count", "quantize.imatrix.chunks_count")


def test_counts_without_a_matrix_are_unchecked_unless_allowed() -> None:
    mix, findings = answer_mix(made("Q4_K_M")), compare_making(header(SUBJECT))
    found = with_findings(mix, None, findings)
    assert (found.status, found.allowed) == (Mix.UNCHECKED, frozenset())
    assert found.sentence.endswith(f"; {', '.join(COUNTS)} could not be checked")
    one = with_findings(mix, None, findings, frozenset({COUNTS[0], "general.name"}))
    assert (one.status, one.allowed) == (Mix.UNCHECKED, {COUNTS[0]})
    both = with_findings(mix, None, findings, frozenset(COUNTS))
    assert (both.status, both.allowed) == (Mix.STOCK, {*COUNTS})
    assert both.sentence.endswith("could not be checked, as was allowed")


def test_a_matrix_that_is_not_like_others_is_unchecked_unless_allowed() -> None:
    """Each number is told with its tensor; who allows it has them in the findings."""
    numbers = Sanity(
        2, sanity_of({"blk.0.attn_q.weight": DEAD}, {"blk.0.ffn_up.weight": 7.25}), ("blk.1.attn_q.weight",)
    )
    mix = replace(answer_mix(made("Q4_K_M")), sanity=numbers)
    found = with_findings(mix, None, [*numbers.findings()])
    assert (found.status, found.mix) == (Mix.UNCHECKED, "Q4_K_M")
    for words in (
        "1 matrix is quantized without importances, as llama-quantize was given none: blk.1.attn_q.weight",
        "share of dead columns 0.969 in blk.0.attn_q.weight (at most 0.25)",
        "effective columns 1 of 32 in blk.0.attn_q.weight (at least 1.5)",
        "unweighted error 7.25 times that without a matrix in blk.0.ffn_up.weight (at most 2.5)",
    ):
        assert words in found.sentence
    assert found.sentence.count("the importance matrix is not like measured ones") == 1
    allowed = with_findings(mix, None, [*numbers.findings()], frozenset({MATRIX}))
    assert (allowed.status, allowed.allowed) == (Mix.STOCK, {MATRIX})
    assert allowed.sentence.endswith("; imatrix could not be checked, as was allowed")


def test_beside_other_keys_the_matrix_is_named_once() -> None:
    numbers = Sanity(1, sanity_of({"blk.0.attn_q.weight": DEAD}, {}))
    found = with_findings(answer_mix(made("Q4_K_M")), None, [*compare_making(header(SUBJECT)), *numbers.findings()])
    assert found.sentence.endswith(f"; {', '.join((*COUNTS, MATRIX))} could not be checked")


def test_evidence_cannot_be_allowed() -> None:
    serious = MetadataFinding(FILE_TYPE, Grade.SERIOUS, "a", "b", "is false")
    found = with_findings(answer_mix(made("Q4_K_M")), None, [serious], frozenset({FILE_TYPE}))
    assert (found.status, found.allowed) == (Mix.CONTRADICTED, frozenset())
