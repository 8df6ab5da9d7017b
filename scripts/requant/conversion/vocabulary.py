"""What the converter writes about a checkpoint's tokenizer.

``TextModel.get_vocab_base`` in ``conversion/base.py`` and ``LlamaModel.set_vocab`` in ``conversion/llama.py`` of
llama.cpp 0c1e57098bba, which ask transformers for a byte-pair vocabulary. What depends on more than the files say is
left unknown. SentencePiece's vocabularies are in ``pieces``.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from requant.conversion.byte_level import comes_back
from requant.conversion.expected import ExpectedMetadata
from requant.conversion.pieces import (
    CODE_LLAMA,
    CODE_LLAMA_ROWS,
    MODEL,
    Pieces,
    UnknownVocabularyError,
    add_pieces,
    from_model,
    from_tokenizer,
    is_piecewise,
    looks_special,
)
from requant.conversion.special_tokens import (
    GGML,
    KINDS,
    SPECIAL,
    TOKENIZER,
    SpecialTokens,
    UnknownProcessorError,
    add_special,
    added_tokens,
    content_of,
    forget_special,
    read_special,
)
from requant.conversion.templates import SETTINGS, add_template, read_object
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, quoted
from requant.ground.errors import FormatError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""``gguf.TokenType``."""

QWEN2 = "6a7a8a11eb4f569e38571aa3663491e1ca4388228371affb992840fa035090da"
"""SHA-256 of the tokens and merges of all Qwen2, 2.5 and 3 models, a line each."""
QWEN2_CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SLOW_CLASSES = (*QWEN2_CLASSES, "GPT2Tokenizer", "GPT2TokenizerFast")
"""Tokenizers that transformers makes of vocab.json and merges.txt as they are, with this token by default."""
END_OF_TEXT = "<|endoftext|>"
GRANITE_ROWS = 49152
"""By which the converter tells small models of Granite's."""


class Added(NamedTuple):
    """A token added to the byte-pair vocabulary."""

    content: str
    special: bool
    normalized: bool


@dataclass
class Vocabulary:
    """Byte-pair tokens by id, merges by rank, added tokens by id, and the ids of which it is not sure what they get.

    ``texts`` are added tokens as the converter writes them.
    """

    base: dict[int, str]
    merges: list[str]
    added: dict[int, Added] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)
    texts: dict[int, str] = field(default_factory=dict)


def expected_tokenizer(
    files: Mapping[str, bytes], config: Mapping[str, Any], architecture: str, rows: int
) -> ExpectedMetadata:
    """Derive the keys that begin with ``tokenizer.``.

    Args:
        files: contents of the checkpoint's small files by name.
        config: the parsed config.json.
        architecture: in the GGUF's words.
        rows: the vocab_size of the model.

    Raises:
        FormatError: naming the file that is damaged or hostile.
    """
    tokenizer, settings = read_object(files, TOKENIZER), read_object(files, SETTINGS)
    expected = ExpectedMetadata()
    if "tekken.json" in files and tokenizer is None:
        expected.unknown["tokenizer."] = "Mistral's own tokenizers are not known to requant"
        return expected
    add_template(expected, files, settings)
    try:
        pieces = _pieces(files, tokenizer, settings, architecture, rows)
        size = None if pieces is None else len(pieces.texts)
        found = read_special(tokenizer, settings, config, size)
    except UnknownVocabularyError as error:
        expected.unknown[GGML] = str(error)
        return expected
    except UnknownProcessorError:
        found = None
    if pieces is None:
        if reason := _unknown_kind(files, tokenizer, settings):
            expected.unknown[GGML] = reason
            return expected
        _add_byte_pairs(expected, files, tokenizer, settings or {}, rows)
    else:
        add_pieces(expected, pieces)
    _add_special(expected, found, tokenizer)
    if architecture == "llama":
        _add_llama(expected, found, settings or {}, rows)
    return expected


def _pieces(
    files: Mapping[str, bytes],
    tokenizer: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    architecture: str,
    rows: int,
) -> Pieces | None:
    """The vocabulary if it is SentencePiece's; a ``tokenizer.model`` goes before everything else.

    Raises:
        UnknownVocabularyError, UnknownProcessorError: saying why it cannot be told.
    """
    if MODEL in files:
        return from_model(files, settings, rows)
    if architecture != "llama" or tokenizer is None or not is_piecewise(tokenizer):
        return None
    return from_tokenizer(tokenizer, settings, _by_id(_object(_object(tokenizer, "model"), "vocab"), TOKENIZER, rows))


def _add_byte_pairs(
    expected: ExpectedMetadata,
    files: Mapping[str, bytes],
    tokenizer: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    rows: int,
) -> None:
    vocabulary = _read_vocabulary(files, tokenizer, settings, rows)
    expected.values[f"{GGML}model"] = Field(ValueType.STRING, "gpt2")
    expected.values[f"{GGML}merges"] = _texts(vocabulary.merges)
    named = {*_named_tokens(settings), *(() if tokenizer else (END_OF_TEXT,))}
    _add_tokens(expected, vocabulary, named, rows)
    _add_pre(expected, vocabulary, tokenizer, settings)


def _unknown_kind(
    files: Mapping[str, bytes], tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any] | None
) -> str | None:
    """Why the converter would not write a byte-pair tokenizer, or why it cannot be told."""
    if tokenizer is None:
        if "vocab.json" not in files or "merges.txt" not in files:
            return "the checkpoint's tokenizer files are missing"
        if (settings or {}).get("tokenizer_class") not in SLOW_CLASSES:
            return "what transformers makes of this tokenizer is not known to requant"
        return None
    if _object(tokenizer, "model").get("type") != "BPE":
        return "only byte-pair and SentencePiece tokenizers are known to requant"
    return None


def _texts(texts: Sequence[str]) -> Field:
    items: list[str | bytes] = [*texts]
    return Field(ValueType.ARRAY, items, ValueType.STRING)


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _read_vocabulary(
    files: Mapping[str, bytes], tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any] | None, rows: int
) -> Vocabulary:
    if tokenizer is None:
        ids = read_object(files, "vocab.json") or {}
        vocabulary = Vocabulary(_by_id(ids, "vocab.json", rows), _merge_lines(files["merges.txt"]))
    else:
        model = _object(tokenizer, "model")
        vocabulary = Vocabulary(_by_id(_object(model, "vocab"), TOKENIZER, rows), _merges(model.get("merges")))
        for token in added_tokens(tokenizer):
            _add(vocabulary, token.get("id"), token, TOKENIZER, rows)
    for text, token in _object(settings or {}, "added_tokens_decoder").items():
        number = int(text) if text.isdecimal() and len(text) < 10 else None
        _add(vocabulary, number, token if isinstance(token, dict) else {}, SETTINGS, rows)
    for content, number in (read_object(files, "added_tokens.json") or {}).items():
        if type(number) is not int or not 0 <= number < rows:
            raise FormatError(f"added_tokens.json gives {quoted(content)} no id below {rows:,}: it is damaged")
        # An older form, which transformers reads where the other files say nothing.
        if number not in vocabulary.added or vocabulary.added[number].content != content:
            vocabulary.unsure.add(number)
    _come_back(vocabulary, tokenizer)
    return vocabulary


def _come_back(vocabulary: Vocabulary, tokenizer: Mapping[str, Any] | None) -> None:
    """Tokens that are not normalized come back from a round through the tokenizer, which may clean up spaces."""
    for number, added in vocabulary.added.items():
        text = added.content if added.normalized else comes_back(added.content, tokenizer)
        vocabulary.texts[number] = added.content if text is None else text
        if text is None or " " in text:
            vocabulary.unsure.add(number)


def _by_id(ids: Mapping[str, Any], name: str, rows: int) -> dict[int, str]:
    for token, number in ids.items():
        if type(number) is not int or not 0 <= number < rows:
            raise FormatError(f"{name} gives {quoted(token)} no id below the vocab_size of {rows:,}: it is damaged")
    found = {number: token for token, number in ids.items()}
    if len(found) != len(ids):
        raise FormatError(f"{name} gives several tokens the same id: it is damaged")
    return found


def _merge_lines(data: bytes) -> list[str]:
    try:
        lines = data.decode().replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError("merges.txt is not UTF-8: get the file again") from error
    if lines[0].strip().startswith("#"):
        del lines[0]
    pairs = (line.strip().split() for line in lines)
    return [" ".join(pair) for pair in pairs if len(pair) == 2]


def _merges(found: object) -> list[str]:
    """The merges of a tokenizer.json: texts, or (since transformers 4.45) pairs."""
    if not isinstance(found, list):
        raise FormatError(f"{TOKENIZER} has no list of merges: it is damaged")
    if all(isinstance(merge, str) for merge in found):
        return found
    for merge in found:
        if not isinstance(merge, list) or len(merge) != 2 or not all(isinstance(part, str) for part in merge):
            raise FormatError(f"{TOKENIZER} has a merge that is no pair of texts: it is damaged")
    # The space stands between the two, so one inside is written as its byte-level stand-in.
    return [" ".join(part.replace(" ", chr(ord(" ") + 256)) for part in merge) for merge in found]


def _add(vocabulary: Vocabulary, number: object, token: Mapping[str, Any], name: str, rows: int) -> None:
    """Note an added token; where two files describe it differently, what becomes of it is unsure."""
    content, special, normalized = (token.get(key) for key in ("content", "special", "normalized"))
    if type(number) is not int or not 0 <= number < rows or not isinstance(content, str):
        raise FormatError(f"{name} has an added token without content and an id below {rows:,}: it is damaged")
    added = Added(content, special is True, normalized is True)
    before = vocabulary.added.setdefault(number, added)
    if before != added or vocabulary.base.get(number, content) != content:
        vocabulary.unsure.add(number)


def _add_tokens(expected: ExpectedMetadata, vocabulary: Vocabulary, named: set[str], rows: int) -> None:
    tokens, types = [f"[PAD{index}]" for index in range(rows)], np.full(rows, UNUSED, np.dtype("<i4"))
    contents = {token.content for token in vocabulary.added.values()}
    missing = named - contents - set(vocabulary.base.values())
    if missing:
        reason = f"transformers adds {quoted(min(missing))}, which is named but missing, to the vocabulary"
        expected.unknown |= {f"{GGML}tokens": reason, f"{GGML}token_type": reason}
        return
    for number, token in vocabulary.base.items():
        tokens[number], types[number] = token, NORMAL
    for number, added in vocabulary.added.items():
        text = vocabulary.texts[number]
        control = added.special or looks_special(text)
        # llama.cpp takes user-defined tokens as they are, so the stand-in for a space is replaced.
        tokens[number] = text if control else text.replace("\u2581", " ")
        types[number] = CONTROL if control else USER_DEFINED
        if control and not added.special:
            expected.looking.add(number)
    types.setflags(write=False)
    expected.values[f"{GGML}tokens"] = _texts(tokens)
    expected.values[f"{GGML}token_type"] = Field(ValueType.ARRAY, types, ValueType.INT32)
    expected.unsure |= {f"{GGML}tokens": vocabulary.unsure, f"{GGML}token_type": vocabulary.unsure}


def _named_tokens(settings: Mapping[str, Any]) -> Iterator[str]:
    """The special tokens that tokenizer_config.json names, wherever they come from."""
    named = [settings.get(f"{kind}_token") for kind in KINDS]
    # The second key is what transformers 5 calls the first.
    more = (settings.get("additional_special_tokens"), settings.get("extra_special_tokens"))
    for token in (*named, *(token for listed in more if isinstance(listed, list) for token in listed)):
        content = content_of(token)
        if content is not None:
            yield content


def _add_pre(
    expected: ExpectedMetadata, vocabulary: Vocabulary, tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> None:
    """The converter goes by what the tokenizer makes of a fixed text, which is known for Qwen's vocabulary alone."""
    lines = [vocabulary.base[number] for number in sorted(vocabulary.base)] + vocabulary.merges
    known = hashlib.sha256("\n".join(lines).encode(errors="replace")).hexdigest() == QWEN2
    known &= settings.get("tokenizer_class") in QWEN2_CLASSES
    # The text has no angle brackets, so it holds none of these.
    known &= all(token.content.startswith("<") for token in vocabulary.added.values())
    known &= not settings.get("add_bos_token") and not settings.get("add_eos_token")
    if tokenizer is not None:
        pieces = _object(tokenizer, "pre_tokenizer").get("pretokenizers")
        split = pieces[0] if isinstance(pieces, list) and len(pieces) == 2 and isinstance(pieces[0], dict) else {}
        known &= _object(split, "pattern").get("Regex") == QWEN2_PATTERN
        known &= _object(tokenizer, "normalizer").get("type") == "NFC"
        known &= _object(tokenizer, "post_processor").get("type") == "ByteLevel"
    if known:
        expected.values[f"{GGML}pre"] = Field(ValueType.STRING, "qwen2")
    else:
        expected.unknown[f"{GGML}pre"] = "the converter recognises this tokenizer by running it"


def _add_special(expected: ExpectedMetadata, found: SpecialTokens | None, tokenizer: Mapping[str, Any] | None) -> None:
    """Ids of special tokens, and whether some are put around every text; nothing where ``found`` is nothing."""
    if found is None:
        forget_special(expected)
    else:
        add_special(expected, found)
    if "Lowercase" in str(normalizer := (tokenizer or {}).get("normalizer")) or "tripAccents" in str(normalizer):
        expected.unknown[f"{GGML}normalizer."] = "this normalizer is not known to requant"


def _add_llama(expected: ExpectedMetadata, found: SpecialTokens | None, settings: Mapping[str, Any], rows: int) -> None:
    """What ``LlamaModel.set_vocab`` does besides."""
    prefix = settings.get("add_prefix_space")
    if isinstance(prefix, bool):
        expected.values[f"{GGML}add_space_prefix"] = Field(ValueType.BOOL, prefix)
    if rows == CODE_LLAMA_ROWS and found is not None:
        for kind, number in CODE_LLAMA.items():
            key = f"{GGML}{SPECIAL.get(kind, f'{kind}_token_id')}"
            expected.values.setdefault(key, Field(ValueType.UINT32, number))
            if kind not in SPECIAL:
                # Older converters wrote these, and llama.cpp still reads them.
                expected.implied.add(key)
    if rows == GRANITE_ROWS:
        expected.values[f"{GGML}add_bos_token"] = Field(ValueType.BOOL, False)
