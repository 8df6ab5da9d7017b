"""Comparing what a GGUF says about itself with what the named weights would have made it say.

Every key is either equal, or a finding of one of three grades. What llama.cpp reads when it runs a model is serious;
names, authors and the like are harmless; what cannot be derived is said to be unchecked, never to be different.
Keys and their meaning: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and llama.cpp's ``llama-arch.cpp``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from requant.audit.metadata.end_tokens import ENDS, ids_of, known_ends, shown_ids
from requant.audit.metadata.variations import (
    Sides,
    from_gguf,
    unread,
    why_absent,
    why_added,
    why_matters,
    why_other,
    why_untold,
)
from requant.conversion.expected import ExpectedMetadata, belongs
from requant.conversion.layout import WITH_DENSE
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, Header
from requant.formats.gguf_values import ABSENT, cut, differing, shown

# What llama.cpp reads of the general keys; all others describe.
READ = ("general.architecture", "general.type", "general.sampling.", "general.tensor_extra.")
FILE_TYPE = "general.file_type"
QUANTIZATION_VERSION = "general.quantization_version"
QUANTIZATION = 2
"""``GGML_QNT_VERSION``, of all files since 2023."""
IMATRIX = "quantize.imatrix."
# What llama-quantize sets or drops itself, whatever its source says.
SET_BY_QUANTIZE = (FILE_TYPE, QUANTIZATION_VERSION, IMATRIX, "split.")

DENSE = re.compile(rf"({'|'.join(WITH_DENSE)})\.dense_[23]_feat_(in|out)")
"""Sizes of modules beside a model, which are written with their tensors if asked for."""

EFFECTS = {
    "general.architecture": "another model would be run",
    "general.type": "it is not what it is taken for",
    "general.sampling.": "llama.cpp samples otherwise by default",
    "general.quantization_version": "its blocks would be read otherwise",
    "tokenizer.chat_template": "conversations are put to the model otherwise",
    "tokenizer.": "text is split into tokens otherwise, or ends elsewhere",
    "": "the model computes otherwise",
}


class Grade(StrEnum):
    """How much a finding matters."""

    HARMLESS = "harmless"
    SERIOUS = "serious"
    UNCHECKED = "unchecked"


@dataclass(frozen=True)
class MetadataFinding:
    """One key that is not simply equal.

    ``expected`` and ``actual`` are printable and at most ``WIDTH`` characters long; of long texts and lists they show
    the first line or item that differs. ``sentence`` says it all without them. ``passed_over`` is what llama.cpp does
    with such a key in such a file.
    """

    key: str
    grade: Grade
    expected: str
    actual: str
    sentence: str
    passed_over: bool = False


@dataclass(frozen=True)
class MetadataComparison:
    """The outcome: the keys that are equal, and findings about all others, in the order of the file."""

    equal: tuple[str, ...]
    findings: tuple[MetadataFinding, ...]


@dataclass(frozen=True)
class NamedImatrix:
    """What llama-quantize notes about an importance matrix: its entries, and the chunks of text it was made of.

    ``entries`` are those that it may have been given of it. Of ``untold`` of these the tensors do not show whether it
    was; ``used`` says whether any tensor shows that it was this one.
    """

    entries: int
    chunks: int
    untold: int = 0
    used: bool = True

    def allows(self, what: str) -> range:
        """What may be noted of ``entries`` or of ``chunks``."""
        most: int = getattr(self, what)
        return range(most - (self.untold if what == "entries" else 0), most + 1)


def expected_from_gguf(weights: Header) -> ExpectedMetadata:
    """Expect what llama-quantize keeps of ``weights``, the unquantized GGUF: everything that it does not set itself."""
    kept = {key: value for key, value in weights.metadata.items() if not belongs(key, *SET_BY_QUANTIZE)}
    return from_gguf(kept)


def expected_from_upstream(converted: Header) -> ExpectedMetadata:
    """Expect what upstream's converter writes. Other versions of it may write more keys for such a model, or fewer."""
    expected = expected_from_gguf(converted)
    expected.optional |= {key for key in expected.values if belongs(key, "general.type", "general.sampling.")}
    why = "upstream's converter of this version does not write it"
    expected.unknown = {f"{_architecture(converted.metadata)}.": why, "tokenizer.": why}
    names = expected.values.get("tokenizer.chat_templates")
    if names is not None and isinstance(names.value, list) and len(names.value) > 1:
        expected.unknown["tokenizer.chat_templates"] = "the order of the names in it is arbitrary"
        del expected.values["tokenizer.chat_templates"]
    expected.by_version = True
    return expected


def compare_metadata(subject: Header, expected: ExpectedMetadata) -> MetadataComparison:
    """Compare the metadata of ``subject`` with what is expected of it, all but the keys that llama-quantize sets."""
    equal: list[str] = []
    findings: list[MetadataFinding] = []
    architectures = {_architecture(subject.metadata), _architecture(expected.values)} - {""}
    sides = Sides(subject.metadata, expected)
    for key, actual in subject.metadata.items():
        if belongs(key, *SET_BY_QUANTIZE):
            continue
        ends = key == ENDS and expected.values.get(key) != actual
        finding = _ends(actual, expected) if ends else _finding(key, actual, sides, architectures)
        if finding is None:
            equal.append(key)
        else:
            findings.append(finding)
    return MetadataComparison(tuple(equal), (*findings, *_missing(sides)))


def compare_making(subject: Header, imatrix: NamedImatrix | None = None) -> tuple[MetadataFinding, ...]:
    """Hold the keys that llama-quantize sets, but for the file type, against what it sets.

    Args:
        subject: the GGUF to judge.
        imatrix: the importance matrix that it was held against, if there is one.
    """
    own = [(key, actual) for key, actual in subject.metadata.items() if belongs(key, *SET_BY_QUANTIZE)]
    findings = [_own_finding(key, actual, imatrix) for key, actual in own if key != FILE_TYPE]
    return tuple(finding for finding in findings if finding is not None)


def _finding(key: str, actual: Field, sides: Sides, architectures: set[str]) -> MetadataFinding | None:
    """What there is to say about a key of the subject; nothing if it is as expected."""
    expected = sides.expected
    over = unread(key, sides)
    wanted = expected.values.get(key)
    if why := why_matters(key, wanted, actual, sides):
        return _make(key, Grade.UNCHECKED, ABSENT if wanted is None else shown(wanted), shown(actual), why)
    if wanted is None:
        if why := expected.why_unknown(key) or _why_of_modules(key):
            return _make(key, Grade.UNCHECKED, "(unknown)", shown(actual), f"cannot be checked: {why}")
        if why := why_added(key, actual, sides):
            return _make(key, Grade.HARMLESS, ABSENT, shown(actual), why, passed_over=over)
        if any(belongs(key, f"{name}.") for name in architectures) or belongs(key, "tokenizer.", *READ):
            return _serious(key, ABSENT, actual, f"does not come from the named weights: {_effect(key)}")
        why = "does not come from the named weights"
        return _make(key, Grade.HARMLESS, ABSENT, shown(actual), why, passed_over=True)
    if wanted == actual:
        return None
    before, after, places = differing(wanted, actual)
    if not reads(key):
        return _make(key, Grade.HARMLESS, before, after, "differs from the named weights and only describes")
    unsure = (places or set()) & expected.unsure.get(key, set())
    why = why_other(key, wanted, actual, places and places - unsure, sides)
    if unsure and (unsure == places or why):
        return _make(key, Grade.UNCHECKED, before, after, "differs only where what it should be is not known")
    if why:
        return _make(key, Grade.HARMLESS, before, after, why, passed_over=over)
    return _make(key, Grade.SERIOUS, before, after, f"is not what the named weights give: {_effect(key)}")


def _ends(actual: Field, expected: ExpectedMetadata) -> MetadataFinding:
    """llama.cpp passes over Ollama's list of ends, but Ollama does not."""
    known, ids = known_ends(expected), ids_of(actual)
    wanted, found = f"of {shown_ids(known)}", shown_ids(ids) if ids else shown(actual)
    if ids and ids <= known and ENDS not in expected.values:
        why = "is not written by this converter, and holds ends that the checkpoint names"
        return _make(ENDS, Grade.HARMLESS, wanted, found, why, passed_over=True)
    if expected.more_ends and ENDS not in expected.values:
        why = "cannot be checked: which ends there are only the checkpoint would tell"
        return _make(ENDS, Grade.UNCHECKED, wanted, found, why)
    why = "is not what the named weights give: in Ollama texts end elsewhere"
    return _make(ENDS, Grade.SERIOUS, wanted, found, why)


def _why_of_modules(key: str) -> str | None:
    """Why nobody knows what stands under a key, if it is of such a module."""
    return "it is of a module beside the model" if DENSE.fullmatch(key) else None


def _missing(sides: Sides) -> Iterator[MetadataFinding]:
    for key, wanted in sides.expected.values.items():
        if key in sides.subject or key in sides.expected.implied:
            continue
        if why := why_absent(key, wanted, sides):
            yield _make(key, Grade.HARMLESS, shown(wanted), ABSENT, why, passed_over=unread(key, sides))
        elif (why := why_matters(key, wanted, None, sides)) or (reads(key) and (why := why_untold(key, sides))):
            yield _make(key, Grade.UNCHECKED, shown(wanted), ABSENT, why)
        elif reads(key):
            yield _make(key, Grade.SERIOUS, shown(wanted), ABSENT, f"is absent: {_effect(key)}")
        else:
            yield _make(key, Grade.HARMLESS, shown(wanted), ABSENT, "is absent, and only describes")


def _own_finding(key: str, actual: Field, imatrix: NamedImatrix | None) -> MetadataFinding | None:
    """About the keys that llama-quantize sets itself; nothing where one is right."""
    if key == QUANTIZATION_VERSION:
        right = actual == Field(ValueType.UINT32, QUANTIZATION)
        return None if right else _serious(key, str(QUANTIZATION), actual, f"is wrong: {_effect(key)}")
    counts = {f"{IMATRIX}entries_count": "entries", f"{IMATRIX}chunks_count": "chunks"}
    if key not in counts:
        return _make(key, Grade.HARMLESS, "(any)", shown(actual), "only describes how the file was made")
    if imatrix is None:
        return _make(key, Grade.UNCHECKED, "(unknown)", shown(actual), "cannot be checked: no imatrix was named")
    wanted = imatrix.allows(counts[key])
    right = isinstance(actual.value, int) and actual.value in wanted
    said = str(wanted[-1]) if len(wanted) == 1 else f"{wanted[0]} to {wanted[-1]}"
    if right:
        return None
    if not imatrix.used:
        why = "is not of the importance matrix at hand, and no tensor shows whether it was made with that one"
        return _make(key, Grade.UNCHECKED, said, shown(actual), why)
    return _serious(key, said, actual, "contradicts the named importance matrix")


def _serious(key: str, expected: str, actual: Field, reason: str) -> MetadataFinding:
    return _make(key, Grade.SERIOUS, expected, shown(actual), reason)


def reads(key: str) -> bool:
    """Whether llama.cpp reads ``key`` when it runs a model."""
    return belongs(key, *READ) or not key.startswith(("general.", "split.", "quantize."))


def _effect(key: str) -> str:
    return next(effect for start, effect in EFFECTS.items() if belongs(key, start) or not start)


def _architecture(metadata: dict[str, Field]) -> str:
    found = metadata.get("general.architecture")
    return found.value if found is not None and isinstance(found.value, str) else ""


def _make(
    key: str, grade: Grade, expected: str, actual: str, reason: str, *, passed_over: bool = False
) -> MetadataFinding:
    name = cut(key)
    return MetadataFinding(name, grade, expected, actual, f"{name} {reason}", passed_over)
