"""What the converter writes about a vocabulary of pieces with scores: SentencePiece's, of Llama 2 and Mistral.

``TextModel._create_vocab_sentencepiece`` and ``_set_vocab_llama_hf`` in ``conversion/base.py``, ``set_vocab`` in
``conversion/llama.py`` and ``LlamaHfVocab`` in ``gguf-py/gguf/vocab.py`` of llama.cpp 0c1e57098bba. The last one asks
transformers; what that does beyond the files is left unknown.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from requant.conversion.expected import ExpectedMetadata
from requant.conversion.special_tokens import GGML, TOKENIZER, added_tokens, content_of
from requant.conversion.templates import SETTINGS, read_object
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, quoted
from requant.formats.sentencepiece import Kind, read_pieces
from requant.ground.errors import FormatError

MODEL = "tokenizer.model"
ADDED = "added_tokens.json"
CODE_LLAMA_ROWS = 32016
CODE_LLAMA = {"prefix": 32007, "suffix": 32008, "middle": 32009, "eot": 32010}
"""Ids that the converter gives a model of so many tokens; since it lacks keys for the first three, only the last."""

PADDING_SCORE, ADDED_SCORE = -10000.0, -1000.0
LOOKS_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
SPACE = "\u2581"
"""How pieces write a space."""

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
LLAMA_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast")
LLAMA_NAMES = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}
"""What transformers calls the special tokens of these classes where nobody else names them."""
AS_NAMED = "PreTrainedTokenizerFast"


class UnknownVocabularyError(Exception):
    """Its words say why it is not known what the converter makes of the files."""


@dataclass
class Pieces:
    """Tokens by id with their scores and types.

    Of ``unsure`` ids it is not sure what they get; those ``looking`` special are so by their looks alone.
    """

    texts: list[str]
    scores: list[float]
    kinds: list[int]
    unsure: set[int] = field(default_factory=set)
    looking: set[int] = field(default_factory=set)

    def put(self, number: int, text: str, score: float, kind: Kind) -> None:
        """Give an id its token."""
        self.texts[number], self.scores[number], self.kinds[number] = text, score, int(kind)


def add_pieces(expected: ExpectedMetadata, found: Pieces) -> None:
    """Expect the vocabulary ``found``."""
    items: list[str | bytes] = [*found.texts]
    scores, kinds = np.array(found.scores, "<f4"), np.array(found.kinds, "<i4")
    for array in (scores, kinds):
        array.setflags(write=False)
    expected.values |= {
        f"{GGML}model": Field(ValueType.STRING, "llama"),
        f"{GGML}pre": Field(ValueType.STRING, "default"),
        f"{GGML}tokens": Field(ValueType.ARRAY, items, ValueType.STRING),
        f"{GGML}scores": Field(ValueType.ARRAY, scores, ValueType.FLOAT32),
        f"{GGML}token_type": Field(ValueType.ARRAY, kinds, ValueType.INT32),
    }
    expected.unsure |= {f"{GGML}{key}": found.unsure for key in ("tokens", "scores", "token_type")}
    expected.looking |= found.looking


def from_model(files: Mapping[str, bytes], settings: Mapping[str, Any] | None, rows: int) -> Pieces:
    """The vocabulary that a ``tokenizer.model`` gives, padded or cut to ``rows``, with what other files add to it.

    Raises:
        UnknownVocabularyError: where the file is no model of SentencePiece's, as Llama 3's of that name.
        FormatError: naming another file that is damaged or hostile.
    """
    found = Pieces([f"[PAD{number}]" for number in range(rows)], [PADDING_SCORE] * rows, [Kind.UNUSED] * rows)
    try:
        pieces = read_pieces(files[MODEL], MODEL)
    except FormatError as error:
        raise UnknownVocabularyError(f"{error}; the converter refuses such a file") from error
    for number, piece in enumerate(pieces[:rows]):
        # Of the user's own tokens the converter makes ordinary ones.
        kind = Kind.NORMAL if piece.kind is Kind.USER_DEFINED else piece.kind
        found.put(number, piece.text, piece.score, kind)
    for text, number in (read_object(files, ADDED) or {}).items():
        if type(number) is not int or number < 0:
            raise FormatError(f"{ADDED} gives {quoted(text)} no id: it is damaged")
        if number < rows:
            found.put(number, text, ADDED_SCORE, Kind.USER_DEFINED)
    for number, text, special in decoder_tokens(settings):
        if number >= rows:
            continue
        if special or looks_special(text):
            found.put(number, text, ADDED_SCORE, Kind.CONTROL)
            found.looking |= set() if special else {number}
        else:
            # llama.cpp takes user-defined tokens as they are, so the stand-in for a space is replaced.
            found.put(number, text.replace(SPACE, " "), ADDED_SCORE, Kind.USER_DEFINED)
    return found


def decoder_tokens(settings: Mapping[str, Any] | None) -> Iterator[tuple[int, str, bool]]:
    """Id, text and whether it is special of each token in tokenizer_config.json.

    Raises:
        FormatError: when one has no id or no text.
    """
    tokens = (settings or {}).get("added_tokens_decoder", {})
    for text, token in tokens.items() if isinstance(tokens, dict) else ():
        content = token.get("content") if isinstance(token, dict) else None
        if not (text.isascii() and text.isdecimal() and len(text) < 10) or not isinstance(content, str):
            raise FormatError(f"{SETTINGS} has an added token without content and id: it is damaged")
        yield int(text), content, bool(token.get("special"))


def looks_special(token: str) -> bool:
    """``does_token_look_special``: some models do not mark all tokens that are special."""
    around = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))
    return token in LOOKS_SPECIAL or any(token.startswith(start) and token.endswith(end) for start, end in around)


def is_piecewise(tokenizer: Mapping[str, Any]) -> bool:
    """Whether the converter takes a tokenizer.json for SentencePiece's, as ``LlamaHfVocab`` decides it."""
    model, decoder = (tokenizer.get(key) for key in ("model", "decoder"))
    if not isinstance(model, dict) or not isinstance(decoder, dict):
        return False
    return model.get("type") == "BPE" and bool(model.get("byte_fallback")) and decoder.get("type") == "Sequence"


def from_tokenizer(tokenizer: Mapping[str, Any], settings: Mapping[str, Any] | None, base: Mapping[int, str]) -> Pieces:
    """The vocabulary that ``LlamaHfVocab`` makes of a tokenizer.json, whose own tokens by id are ``base``.

    Raises:
        UnknownVocabularyError: saying why transformers may do something else.
        FormatError: naming the file that is damaged.
    """
    named = _named(tokenizer, settings)
    size = len(base)
    added = {token.get("id"): token.get("content") for token in added_tokens(tokenizer)}
    added |= {number: text for number, text, _ in decoder_tokens(settings) if number not in added}
    more = {number: text for number, text in added.items() if type(number) is int and number >= size}
    texts = [base.get(number) for number in range(size)] + [text for _, text in sorted(more.items())]
    if None in texts or sorted(more) != [*range(size, len(texts))]:
        raise UnknownVocabularyError("its ids have gaps, and what transformers makes of these is not known to requant")
    if missing := named - {*texts}:
        raise UnknownVocabularyError(f"transformers adds {quoted(min(missing))}, which is named but missing")
    found = Pieces([str(text) for text in texts], [ADDED_SCORE] * len(texts), [Kind.USER_DEFINED] * len(texts))
    for number, text in enumerate(found.texts):
        if number < size and BYTE.fullmatch(text):
            found.kinds[number] = Kind.BYTE
        elif text in named:
            found.kinds[number] = Kind.CONTROL
        elif number < size:
            found.kinds[number] = Kind.NORMAL
    found.unsure = {number for number, text in added.items() if type(number) is int and base.get(number, text) != text}
    return found


def _named(tokenizer: Mapping[str, Any], settings: Mapping[str, Any] | None) -> set[str]:
    """The special tokens by their texts."""
    settings = settings or {}
    kind = settings.get("tokenizer_class")
    if kind not in (*LLAMA_CLASSES, AS_NAMED) or not isinstance(settings.get("added_tokens_decoder"), dict):
        raise UnknownVocabularyError(f"what transformers makes of this {TOKENIZER} is not known to requant")
    if kind in LLAMA_CLASSES and settings.get("add_prefix_space") is not None:
        raise UnknownVocabularyError(f"transformers makes such a tokenizer of {MODEL} alone, which is missing")
    if "pad_token" not in settings and tokenizer.get("padding"):
        raise UnknownVocabularyError("what transformers makes of the padding in it is not known to requant")
    if settings.get("extra_special_tokens"):
        raise UnknownVocabularyError("what transformers makes of extra_special_tokens is not known to requant")
    defaults = LLAMA_NAMES if kind in LLAMA_CLASSES else {}
    tokens = [settings.get(f"{name}_token", defaults.get(name)) for name in (*LLAMA_NAMES, "sep", "pad", "cls", "mask")]
    more = settings.get("additional_special_tokens")
    tokens += more if isinstance(more, list) else []
    return {text for text in map(content_of, tokens) if text is not None}
