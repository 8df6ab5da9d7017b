"""Which special tokens the converter names, and which it says are put around texts: ``SpecialVocab`` of gguf-py.

``_try_load_from_tokenizer_json`` and ``_try_load_from_config_json`` in ``gguf-py/gguf/vocab.py`` of llama.cpp
0c1e57098bba, step by step, as later steps read what earlier ones changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from requant.conversion.expected import ExpectedMetadata
from requant.conversion.templates import SETTINGS
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.ground.errors import FormatError

TOKENIZER = "tokenizer.json"
GGML = "tokenizer.ggml."

SPECIAL = {
    "bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "sep": "seperator_token_id",
    "pad": "padding_token_id", "mask": "mask_token_id", "eot": "eot_token_id", "eom": "eom_token_id",
}  # fmt: skip
"""Keys of the GGUF; of the other kinds nothing is written."""
KINDS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
AROUND = ("bos", "eos", "sep")
"""Those for which the GGUF says whether llama.cpp adds them."""


class UnknownProcessorError(Exception):
    """A post-processor that upstream cannot read either."""


@dataclass
class SpecialTokens:
    """``ids`` by kind; ``added`` says by kind whether texts get it; of ``disputed`` kinds the files say two things.

    ``refused`` are kinds whose id no converter takes.
    """

    kinds: list[str]
    ids: dict[str, int] = field(default_factory=dict)
    added: dict[str, bool] = field(default_factory=dict)
    disputed: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


def read_special(
    tokenizer: Mapping[str, Any] | None, settings: Mapping[str, Any] | None, config: Mapping[str, Any],
    size: int | None = None, kinds: Sequence[str] = KINDS,
) -> SpecialTokens:  # fmt: skip
    """What ``SpecialVocab`` finds.

    Args:
        tokenizer: the parsed tokenizer.json, if there is one.
        settings: the parsed tokenizer_config.json, if there is one.
        config: the parsed config.json.
        size: number of tokens, below which ids must be; ``None`` for any.
        kinds: which special tokens are looked for.

    Raises:
        UnknownProcessorError: where the tokenizer's post-processor is none that upstream understands.
    """
    named, found = dict(settings or {}), SpecialTokens(list(kinds))
    if tokenizer:
        for short, long in (("bos_token", "cls_token"), ("eos_token", "sep_token")):
            named[short] = named.get(short) or named.get(long)
        _process(tokenizer.get("post_processor"), named, bool(settings), found)
    ids = {token["content"]: token.get("id") for token in reversed(added_tokens(tokenizer)) if "content" in token}
    for kind in found.kinds if settings else ():
        asked = named.get(f"add_{kind}_token")
        if isinstance(asked, bool) and found.added.setdefault(kind, asked) != asked:
            found.disputed.add(kind)
        _give(found, kind, ids.get(content_of(named.get(f"{kind}_token"))), size)
    for kind in found.kinds:
        _give(found, kind, config.get(f"{kind}_token_id"), size)
    return found


def added_tokens(tokenizer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The tokens that a tokenizer.json adds to its vocabulary.

    Raises:
        FormatError: when they are no list of objects with texts.
    """
    found = (tokenizer or {}).get("added_tokens", [])
    if not isinstance(found, list) or not all(isinstance(token, dict) for token in found):
        raise FormatError(f"{TOKENIZER} has added_tokens that are no list of objects: it is damaged")
    if not all(isinstance(token.get("content", ""), str) for token in found):
        raise FormatError(f"{TOKENIZER} has an added token whose content is no text: it is damaged")
    return found


def add_special(expected: ExpectedMetadata, found: SpecialTokens) -> None:
    """Expect the keys of ``found``."""
    for kind, key in SPECIAL.items():
        if kind in found.ids:
            expected.values[f"{GGML}{key}"] = Field(ValueType.UINT32, found.ids[kind])
        elif kind in found.refused:
            expected.unknown[f"{GGML}{key}"] = f"the files give {kind} an id that no converter takes"
    for kind in AROUND:
        key = f"{GGML}add_{kind}_token"
        if kind in found.disputed:
            expected.unknown[key] = f"{SETTINGS} and {TOKENIZER} disagree, and versions of the converter follow either"
        elif kind in found.added:
            expected.values[key] = Field(ValueType.BOOL, found.added[kind])


def forget_special(expected: ExpectedMetadata) -> None:
    """Expect nothing certain of any special token."""
    reason = "the tokenizer's post_processor is not known to requant"
    expected.unknown |= {f"{GGML}{key}": reason for key in SPECIAL.values()}
    expected.unknown |= {f"{GGML}add_{kind}_token": reason for kind in AROUND}


def content_of(token: object) -> str | None:
    """The text of a special token, which stands by itself or in an object."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


def _give(found: SpecialTokens, kind: str, number: object, size: int | None) -> None:
    """The first id that is possible is kept."""
    if type(number) is not int or (size is not None and number >= size) or kind in found.ids:
        return
    if 0 <= number < 1 << 32:
        found.ids[kind] = number
    else:
        found.refused.add(kind)


def _process(processor: object, named: dict[str, Any], settings: bool, found: SpecialTokens) -> None:
    """What the post-processor says is put around texts; with ``settings`` it may also give names that they lack."""
    if not processor:
        return
    for step in map(_object, _list(_object(processor).get("processors", [processor]))):
        if step.get("type") == "ByteLevel":
            found.added.setdefault("bos", False)
            found.added.setdefault("eos", False)
        elif step.get("type") == "RobertaProcessing":
            found.added |= dict.fromkeys(AROUND, True)
            if settings:
                _name_missing(step, named)
        elif step.get("type") == "TemplateProcessing":
            _process_template(step, named, settings, found)


def _name_missing(step: Mapping[str, Any], named: dict[str, Any]) -> None:
    for kind, other in (("cls", "bos"), ("sep", "eos")):
        if not named.get(f"{kind}_token"):
            pair = _list(step.get(kind, [named.get(f"{other}_token")]))
            if not pair:
                raise UnknownProcessorError
            named[f"{kind}_token"] = pair[0]


def _process_template(step: Mapping[str, Any], named: dict[str, Any], settings: bool, found: SpecialTokens) -> None:
    single, pair = ([*map(_object, _list(step.get(key, [])))] for key in ("single", "pair"))
    first, last = (_special(single[0]), _special(single[-1])) if len(single) > 1 else (None, None)
    if first:
        if not settings:
            named["bos_token"] = first
        elif first not in (named.get("bos_token"), named.get("cls_token")):
            for key in ("bos_token", "cls_token"):
                named[key] = named.get(key) or first
        found.added["bos"] = first in (named.get("bos_token"), named.get("cls_token"))
    if last:
        free = next((kind for kind in ("eot", "eom") if kind not in found.kinds), None)
        if settings and last != named.get("eos_token") and free:
            # What was called the end of a text so far becomes that of a turn, or of a message.
            found.kinds.append(free)
            named[f"{free}_token"] = named.get("eos_token")
        named["eos_token"] = last
        found.added["eos"] = True
    if pair:
        _process_pair(pair, (first, last), named, found)


def _process_pair(
    pair: list[Mapping[str, Any]], ends: tuple[str | None, str | None], named: dict[str, Any], found: SpecialTokens
) -> None:
    first, last = ends
    start = 1 if first and _special(pair[0]) == first else 0
    stop = -1 if last and _special(pair[-1]) == last else None
    pair = pair[start:stop]
    if not pair or (_sequence(pair[0]), _sequence(pair[-1])) != ("A", "B") or not (between := pair[1:-1]):
        return
    separators = [token for token in (named.get("sep_token"), named.get("eos_token")) if token]
    added = _special(between[0]) in separators and not last
    added |= len(between) == 2 and _special(between[1]) in separators
    found.added["sep"] = added
    if added and not named.get("sep_token"):
        named["sep_token"] = named.get("eos_token")


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UnknownProcessorError
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise UnknownProcessorError
    return value


def _special(piece: Mapping[str, Any]) -> str | None:
    return _id(piece.get("SpecialToken", {}))


def _sequence(piece: Mapping[str, Any]) -> str | None:
    return _id(piece.get("Sequence", {}))


def _id(value: object) -> str | None:
    found = _object(value).get("id")
    if found is not None and not isinstance(found, str):
        raise UnknownProcessorError
    return found
