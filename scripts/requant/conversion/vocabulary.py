"""What the converter writes about a checkpoint's tokenizer, if that is a byte-pair one.

``TextModel.get_vocab_base`` in ``conversion/base.py`` and ``SpecialVocab`` in ``gguf-py/gguf/vocab.py`` of llama.cpp
0c1e57098bba, which ask transformers for the vocabulary. What depends on more than the files say is left unknown.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from requant.conversion.expected import ExpectedMetadata
from requant.conversion.templates import SETTINGS, add_template, read_object
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, quoted
from requant.ground.errors import FormatError

TOKENIZER = "tokenizer.json"
GGML = "tokenizer.ggml."

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""``gguf.TokenType``."""

SPECIAL = {
    "bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "sep": "seperator_token_id",
    "pad": "padding_token_id", "mask": "mask_token_id",
}  # fmt: skip
LOOKS_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")

QWEN2 = "6a7a8a11eb4f569e38571aa3663491e1ca4388228371affb992840fa035090da"
"""SHA-256 of the tokens and merges of all Qwen2, 2.5 and 3 models, a line each."""
QWEN2_CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SLOW_CLASSES = (*QWEN2_CLASSES, "GPT2Tokenizer", "GPT2TokenizerFast")
"""Tokenizers that transformers makes of vocab.json and merges.txt as they are, with this token by default."""
END_OF_TEXT = "<|endoftext|>"


class Added(NamedTuple):
    """A token added to the byte-pair vocabulary."""

    content: str
    special: bool
    normalized: bool


@dataclass
class Vocabulary:
    """Byte-pair tokens by id, merges by rank, added tokens by id, and the ids of which it is not sure what they get."""

    base: dict[int, str]
    merges: list[str]
    added: dict[int, Added] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)


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
        expected.unknown["tokenizer."] = "only byte-pair tokenizers are known to requant"
        return expected
    add_template(expected, files, settings)
    reason = _unknown_kind(files, tokenizer, settings, architecture, rows)
    if reason:
        expected.unknown[GGML] = reason
        return expected
    vocabulary = _read_vocabulary(files, tokenizer, settings, rows)
    expected.values[f"{GGML}model"] = Field(ValueType.STRING, "gpt2")
    expected.values[f"{GGML}merges"] = _texts(vocabulary.merges)
    named = {*_named_tokens(settings or {}), *(() if tokenizer else (END_OF_TEXT,))}
    _add_tokens(expected, vocabulary, named, rows)
    _add_pre(expected, vocabulary, tokenizer, settings or {})
    _add_special(expected, tokenizer, settings or {}, config)
    if architecture == "llama":
        _add_llama(expected, settings or {}, rows)
    return expected


def _unknown_kind(
    files: Mapping[str, bytes],
    tokenizer: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    architecture: str,
    rows: int,
) -> str | None:
    """Why the converter would not write a byte-pair tokenizer, or why it cannot be told."""
    if "tokenizer.model" in files:
        return "only byte-pair tokenizers are known to requant"
    if architecture == "llama" and rows == 32016:
        return "CodeLlama's tokenizer is not known to requant"
    if tokenizer is None:
        if "vocab.json" not in files or "merges.txt" not in files:
            return "the checkpoint's tokenizer files are missing"
        if (settings or {}).get("tokenizer_class") not in SLOW_CLASSES:
            return "what transformers makes of this tokenizer is not known to requant"
        return None
    model, decoder = _object(tokenizer, "model"), _object(tokenizer, "decoder")
    if model.get("type") != "BPE":
        return "only byte-pair tokenizers are known to requant"
    if architecture == "llama" and model.get("byte_fallback") and decoder.get("type") == "Sequence":
        return "only byte-pair tokenizers are known to requant"
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
        for token in _items(tokenizer.get("added_tokens", [])):
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
    return vocabulary


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


def _items(found: object) -> list[dict[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise FormatError(f"{TOKENIZER} has added_tokens that are no list of objects: it is damaged")
    return found


def _add(vocabulary: Vocabulary, number: object, token: Mapping[str, Any], name: str, rows: int) -> None:
    """Note an added token; where two files describe it differently, what becomes of it is unsure."""
    content, special, normalized = (token.get(key) for key in ("content", "special", "normalized"))
    if type(number) is not int or not 0 <= number < rows or not isinstance(content, str):
        raise FormatError(f"{name} has an added token without content and an id below {rows:,}: it is damaged")
    added = Added(content, special is True, normalized is True)
    before = vocabulary.added.setdefault(number, added)
    # Tokens that are not normalized come back from a round through the tokenizer, which may clean up spaces.
    if before != added or " " in content or vocabulary.base.get(number, content) != content:
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
        control = added.special or _looks_special(added.content)
        # llama.cpp takes user-defined tokens as they are, so the stand-in for a space is replaced.
        tokens[number] = added.content if control else added.content.replace("\u2581", " ")
        types[number] = CONTROL if control else USER_DEFINED
    types.setflags(write=False)
    expected.values[f"{GGML}tokens"] = _texts(tokens)
    expected.values[f"{GGML}token_type"] = Field(ValueType.ARRAY, types, ValueType.INT32)
    expected.unsure |= {f"{GGML}tokens": vocabulary.unsure, f"{GGML}token_type": vocabulary.unsure}


def _named_tokens(settings: Mapping[str, Any]) -> Iterator[str]:
    """The special tokens that tokenizer_config.json names, wherever they come from."""
    named = [settings.get(f"{kind}_token") for kind in (*SPECIAL, "cls")]
    # The second key is what transformers 5 calls the first.
    more = (settings.get("additional_special_tokens"), settings.get("extra_special_tokens"))
    for token in (*named, *(token for listed in more if isinstance(listed, list) for token in listed)):
        content = _content(token)
        if content is not None:
            yield content


def _content(token: object) -> str | None:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _looks_special(token: str) -> bool:
    """``does_token_look_special``: some models do not mark all tokens that are special."""
    around = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return token in LOOKS_SPECIAL or any(token.startswith(start) and token.endswith(end) for start, end in around)


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


def _add_special(
    expected: ExpectedMetadata,
    tokenizer: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Ids of special tokens, and whether some are put around every text: ``SpecialVocab._load``."""
    flags = _processor_flags(tokenizer, settings)
    if flags is None:
        reason = "the tokenizer's post_processor is not known to requant"
        expected.unknown |= {f"{GGML}{key}": reason for key in (*SPECIAL.values(), "eot_token_id", "eom_token_id")}
        expected.unknown |= {f"{GGML}add_{kind}_token": reason for kind in ("bos", "eos", "sep")}
        return
    tokens = _items((tokenizer or {}).get("added_tokens", []))
    added = {token.get("content"): token.get("id") for token in reversed(tokens)}
    for kind, key in SPECIAL.items():
        number = added.get(_content(settings.get(f"{kind}_token"))) if settings else None
        number = config.get(f"{kind}_token_id") if number is None else number
        if type(number) is int and 0 <= number < 1 << 32:
            expected.values[f"{GGML}{key}"] = Field(ValueType.UINT32, number)
    for kind in ("bos", "eos", "sep"):
        key, asked = f"{GGML}add_{kind}_token", settings.get(f"add_{kind}_token")
        if isinstance(asked, bool) and flags.get(kind, asked) != asked:
            expected.unknown[key] = f"{SETTINGS} and {TOKENIZER} disagree, and versions of the converter follow either"
            continue
        flag = flags.get(kind, asked)
        if isinstance(flag, bool):
            expected.values[key] = Field(ValueType.BOOL, flag)
            # Without the key llama.cpp adds none to texts of these tokenizers.
            if not flag and (kind != "bos" or f"{GGML}pre" in expected.values):
                expected.optional.add(key)
    if "Lowercase" in str(normalizer := (tokenizer or {}).get("normalizer")) or "tripAccents" in str(normalizer):
        expected.unknown[f"{GGML}normalizer."] = "this normalizer is not known to requant"


def _processor_flags(tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> dict[str, bool] | None:
    """Which tokens the post-processor says are added; nothing where it is one that changes more than that."""
    processor = _object(tokenizer or {}, "post_processor")
    inner = processor.get("processors", [processor] if processor else [])
    if not isinstance(inner, list) or not all(isinstance(item, dict) for item in inner):
        return None
    flags: dict[str, bool] = {}
    for item in inner:
        if item.get("type") == "ByteLevel":
            flags = {"bos": False, "eos": False} | flags
        elif item.get("type") == "TemplateProcessing":
            start = _content(settings.get("bos_token"))
            steps = [_steps(item.get(key)) for key in ("single", "pair")]
            # As in Llama 3: the first token before each text, and nothing else.
            if start is None or steps != [[start, "A"], [start, "A", start, "B"]]:
                return None
            if start in (_content(settings.get("sep_token")), _content(settings.get("eos_token"))):
                return None
            flags |= {"bos": True, "sep": False}
        else:
            return None
    return flags


def _steps(template: object) -> list[str] | None:
    """The ids of a template's special tokens and texts, in order."""
    steps = []
    for piece in template if isinstance(template, list) else []:
        found = piece.get("SpecialToken", piece.get("Sequence")) if isinstance(piece, dict) else None
        name = found.get("id") if isinstance(found, dict) else None
        if not isinstance(name, str):
            return None
        steps.append(name)
    return steps


def _add_llama(expected: ExpectedMetadata, settings: Mapping[str, Any], rows: int) -> None:
    """What ``LlamaModel.set_vocab`` does besides."""
    prefix = settings.get("add_prefix_space")
    if isinstance(prefix, bool):
        key = f"{GGML}add_space_prefix"
        expected.values[key] = Field(ValueType.BOOL, prefix)
        if not prefix:
            expected.optional.add(key)
    if rows == 49152:
        expected.values[f"{GGML}add_bos_token"] = Field(ValueType.BOOL, False)
