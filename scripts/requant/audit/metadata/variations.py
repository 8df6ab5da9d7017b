"""Honest variations: what other versions of the converter, or other tools, write into a header otherwise.

None of them changes what llama.cpp computes or how it cuts text into tokens, but where the sentence says what it does
then. What llama.cpp assumes, and what it reads of which tokenizer, is ``llama_vocab::impl::load`` in
``src/llama-vocab.cpp`` and ``src/llama-hparams.h`` of 0c1e57098bba. Everything else that differs is evidence.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from requant.audit.metadata.end_tokens import found_anyway
from requant.conversion.expected import ExpectedMetadata, belongs
from requant.conversion.special_tokens import GGML
from requant.conversion.templates import NAMES, TEMPLATE
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.formats.sentencepiece import Kind

TOKENS, SCORES, TYPES, PRE = (f"{GGML}{key}" for key in ("tokens", "scores", "token_type", "pre"))
MERGES, PADDING_ID = f"{GGML}merges", f"{GGML}padding_token_id"
BYTE_PAIRS, PIECES = "gpt2", "llama"
"""Values of ``tokenizer.ggml.model``."""
SAMPLING = "general.sampling."
NAME = "general.name"
PADS_NOTHING = "tools for training change it, and llama.cpp pads nothing with it"
UNREAD = {BYTE_PAIRS: (SCORES,), PIECES: (MERGES, PRE)}
"""Keys that llama.cpp passes over, by tokenizer."""
OLLAMA = (
    *(f"{GGML}{kind}_token_ids" for kind in ("bos", "eos", "unknown", "seperator", "padding", "cls", "mask")),
    *(f"{GGML}add_{kind}_token" for kind in ("unknown", "seperator", "padding", "cls", "mask")),
)
"""What Ollama's converter writes of special tokens, and llama.cpp has no name for (``src/llama-arch.cpp``)."""
NEVER_READ = (f"{GGML}cls_token_id", "tokenizer.huggingface.json", *OLLAMA)
NEVER_READ_OF_ARCHITECTURE = ("tensor_data_layout",)

BEGINS = (
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
    "chameleon",
)  # fmt: skip
"""Byte-pair pre-tokenizers before whose texts llama.cpp puts a token unless it is told otherwise."""
SEPARATES = ("jina-v1-en", "jina-v2-code", "roberta-bpe")
FLAGS = ("add_space_prefix", "add_bos_token", "add_eos_token", "add_sep_token")
PIECES_ASSUMED = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
ASSUMED_FLOATS = {
    "rope.freq_base": 10000.0, "rope.scaling.yarn_ext_factor": -1.0, "rope.scaling.yarn_attn_factor": 1.0,
    "rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0, "rope.scaling.attn_factor": 1.0,
}  # fmt: skip
NO_EXPERTS = ("expert_count", "expert_used_count")
SCALING, FACTORS, UNSCALED = "rope.scaling.type", ("rope.scaling.factor", "rope.scale_linear"), ("none", "linear")
SIZES = (
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count", "vocab_size",
)  # fmt: skip
"""What follows from other sizes where it is not said."""

PADDING = re.compile(r"\[PAD\d{1,7}\]|<dummy\d{5}>")
"""What converters, old and new, call rows of the embedding that stand for no token."""
PADDING_TYPES = (Kind.UNUSED, Kind.USER_DEFINED)
PADDING_SCORES = (-10000.0, -1000.0, 0.0)


@dataclass(frozen=True)
class Sides:
    """The metadata of the subject, and what is expected of it."""

    subject: Mapping[str, Field]
    expected: ExpectedMetadata

    def text(self, key: str) -> str:
        """What the subject says, or else what is expected; nothing where neither is a text."""
        found = self.subject.get(key, self.expected.values.get(key))
        return found.value if found is not None and isinstance(found.value, str) else ""

    def number(self, key: str) -> int:
        """What the subject says; zero where that is no number."""
        found = self.subject.get(key)
        return found.value if found is not None and type(found.value) is int else 0


def assumed(key: str, sides: Sides) -> Field | None:
    """What llama.cpp goes by where the subject lacks ``key``, if that is known."""
    architecture, model, pre = (sides.text(name) for name in ("general.architecture", f"{GGML}model", PRE))
    start, _, rest = key.partition(".")
    if start == architecture and rest in ASSUMED_FLOATS:
        return Field(ValueType.FLOAT32, ASSUMED_FLOATS[rest])
    if key == "general.type":
        return Field(ValueType.STRING, "model")
    if key == f"{architecture}.attention.causal":
        return Field(ValueType.BOOL, True)
    if start == architecture and rest in SIZES:
        return _assumed_size(rest, architecture, sides)
    if start == architecture and rest in NO_EXPERTS:
        return Field(ValueType.UINT32, 0)
    if key == f"{architecture}.{SCALING}":
        return _assumed_scaling(key, architecture, sides)
    part = key.removeprefix(GGML)
    if part in FLAGS and model in (BYTE_PAIRS, PIECES):
        pieces = model == PIECES
        flags = (pieces, pieces or pre in BEGINS, False, not pieces and pre in SEPARATES)
        return Field(ValueType.BOOL, flags[FLAGS.index(part)])
    if part in PIECES_ASSUMED and model == PIECES:
        return Field(ValueType.UINT32, PIECES_ASSUMED[part])
    return None


def _assumed_size(rest: str, architecture: str, sides: Sides) -> Field:
    heads = sides.number(f"{architecture}.attention.head_count")
    size = sides.number(f"{architecture}.embedding_length") // heads if heads else 0
    if rest == "attention.head_count_kv":
        size = heads
    elif rest == "vocab_size":
        tokens = sides.subject.get(TOKENS)
        size = len(tokens.value) if tokens is not None and isinstance(tokens.value, list) else 0
    elif rest == "rope.dimension_count":
        size = sides.number(f"{architecture}.attention.key_length") or size
    return Field(ValueType.UINT32, size)


def _assumed_scaling(key: str, architecture: str, sides: Sides) -> Field:
    """Without a factor it is the same whether rope is scaled by none, or in a line."""
    said = sides.text(key)
    scaled = any(f"{architecture}.{part}" in sides.subject for part in FACTORS)
    return Field(ValueType.STRING, said if said in UNSCALED and not scaled else "linear")


def unread(key: str, sides: Sides) -> bool:
    """Whether llama.cpp passes over ``key`` in such a file."""
    architecture, model = sides.text("general.architecture"), sides.text(f"{GGML}model")
    never = (*NEVER_READ, *(f"{architecture}.{part}" for part in NEVER_READ_OF_ARCHITECTURE))
    return key in UNREAD.get(model, ()) or key in never


def why_matters(key: str, wanted: Field | None, actual: Field | None, sides: Sides) -> str | None:
    """What another value does to llama.cpp under a key of which it makes nothing otherwise."""
    if wanted == actual:
        return None
    if actual is not None and (why := _refused(key, actual, sides)):
        return f"makes llama.cpp refuse the file: {why}"
    if key == NAME and _told_by_name(wanted) != _told_by_name(actual):
        return "decides in llama.cpp whether spaces beside special tokens are dropped, and is another one"
    return None


def _refused(key: str, actual: Field, sides: Sides) -> str | None:
    if key == NAME and actual.type is not ValueType.STRING:
        return "it is no text"
    if key == SCORES and sides.text(f"{GGML}model") == BYTE_PAIRS:
        tokens = sides.subject.get(TOKENS)
        count = len(tokens.value) if tokens is not None and isinstance(tokens.value, list) else 0
        numbers = actual.value if actual.item in (ValueType.FLOAT32, ValueType.INT32) else None
        if not isinstance(numbers, np.ndarray) or len(numbers) < count:
            return "it is no list of a number for each token"
    return None


def _told_by_name(field: Field | None) -> str:
    """What ``llama-vocab.cpp`` takes a model for by its name, to strip spaces beside special tokens."""
    value = field.value if field is not None else ""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return next((each for each in ("phi3", "modern-bert") if each in text.lower().replace("phi-3", "phi3")), "")


def why_added(key: str, actual: Field, sides: Sides) -> str | None:
    """Why a key that was not expected changes nothing, if so."""
    if key == PADDING_ID and actual.type is ValueType.UINT32:
        return f"is not written by this converter: {PADS_NOTHING}"
    if found_anyway(key, actual, sides.subject, sides.expected):
        return "is not written by this converter, and of a token that llama.cpp takes for the same by itself"
    if unread(key, sides):
        return "is not written by this converter, and not read by llama.cpp"
    if actual == assumed(key, sides):
        return "is not written by this converter, and what llama.cpp assumes without it"
    return None


def why_absent(key: str, wanted: Field, sides: Sides) -> str | None:
    """Why the absence of an expected key is honest, if so."""
    if key in sides.expected.optional:
        return "is absent, as in files of other versions of the converter"
    if key == PADDING_ID:
        return f"is absent: {PADS_NOTHING}"
    if unread(key, sides):
        return "is absent, and not read by llama.cpp"
    if wanted == assumed(key, sides):
        return "is absent, and what llama.cpp assumes then"
    return _why_no_template(key, sides)


def _why_no_template(key: str, sides: Sides) -> str | None:
    """A converter that misses templates misses all of a place: those of a folder, or every one."""
    if key == NAMES and _named_templates(sides.subject):
        return "is absent, and not read by llama.cpp"
    if not _is_template(key) or _named_templates(sides.subject):
        return None
    missed = "is absent, as in files of converters that did not look where it is"
    if TEMPLATE not in sides.subject:
        return f"{missed}: llama.cpp then takes ChatML"
    return f"{missed}: llama.cpp then takes the default one" if key in sides.expected.overlooked else None


def _is_template(key: str) -> bool:
    return key in (TEMPLATE, NAMES) or key.startswith(f"{TEMPLATE}.")


def _named_templates(metadata: Mapping[str, Field]) -> bool:
    return any(key.startswith(f"{TEMPLATE}.") for key in metadata)


def why_untold(key: str, sides: Sides) -> str | None:
    """Why it cannot be told whether the absence of an expected key is honest, if so."""
    if sides.expected.by_version:
        return "is absent: upstream's converter of this version writes it, others may not"
    if sides.expected.unplaced and _is_template(key) and key != TEMPLATE and not _named_templates(sides.subject):
        return "is absent: whether a converter may have missed it only the checkpoint would tell"
    return None


def why_other(key: str, wanted: Field, actual: Field, places: set[int] | None, sides: Sides) -> str | None:
    """Why another value is honest, if so; ``places`` are the items in which two lists of the same length differ."""
    if (
        key.startswith(SAMPLING)
        and type(wanted.value) is int
        and type(actual.value) is int
        and wanted.value == actual.value
    ):
        return "is stored in another type, and llama.cpp reads the same number"
    if (wanted.type, wanted.item) != (actual.type, actual.item):
        return None
    if key == PADDING_ID:
        return f"differs: {PADS_NOTHING}"
    if unread(key, sides) and key != PRE:
        return "differs, and is not read by llama.cpp"
    if key == NAMES and _texts(wanted) == _texts(actual):
        return "names the same in another order, which is arbitrary"
    if places and key in (TOKENS, SCORES, TYPES) and all(_is_padding(key, place, actual, sides) for place in places):
        return "differs in tokens that the files do not have, or as older converters typed them"
    return None


def _is_padding(key: str, place: int, actual: Field, sides: Sides) -> bool:
    """Whether an item may differ: that of padding, or the type of a token that is special for newer converters."""
    assert isinstance(actual.value, (list, np.ndarray))
    found, tokens = actual.value[place], sides.expected.values.get(TOKENS)
    if key == TYPES and place in sides.expected.looking:
        return bool(found == Kind.USER_DEFINED)
    if tokens is None or not isinstance(tokens.value, list) or place >= len(tokens.value):
        return False
    if not _is_expected_padding(place, tokens.value[place], sides):
        return False
    if key == TOKENS:
        return isinstance(found, str) and PADDING.fullmatch(found) is not None
    return found in (PADDING_TYPES if key == TYPES else PADDING_SCORES)


def _is_expected_padding(place: int, token: object, sides: Sides) -> bool:
    """Whether an id is expected to stand for nothing: by its text and its type, which no token of a model has."""
    types = sides.expected.values.get(TYPES)
    if types is None or not isinstance(types.value, np.ndarray) or place >= len(types.value):
        return False
    return token == f"[PAD{place}]" and types.value[place] in PADDING_TYPES


def _texts(field: Field) -> list[str]:
    return sorted(map(str, field.value)) if isinstance(field.value, list) else []


def from_gguf(kept: Mapping[str, Field]) -> ExpectedMetadata:
    """Expect ``kept``, the keys of a GGUF that is named as the weights; another converter may have made the subject.

    Older ones say nothing of sampling, so what a subject of a newer one says of it cannot be told from a change.
    """
    sampling = {key for key in kept if belongs(key, SAMPLING)}
    unknown = {} if sampling else {SAMPLING: "the named GGUF says nothing of sampling, only the checkpoint would tell"}
    return ExpectedMetadata(dict(kept), optional=sampling, unknown=unknown, more_ends=True, unplaced=True)
