"""What comes back of an added token that the converter encodes and decodes: ``get_vocab_base`` in its ``base.py``.

The token itself is found as it is written, but decoders of byte-pair tokenizers take letters for the bytes that they
stand for in the vocabulary: of ``<|début|>`` comes ``<|d\ufffdbut|>``. That is ``ByteLevel`` of the ``tokenizers``
library.
"""

from collections.abc import Iterable, Mapping
from typing import Any

PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
"""Bytes that the letter of this number stands for; others have letters behind U+0100, in their order."""
OTHERS = tuple(byte for byte in range(0x100) if byte not in PRINTABLE)
BYTES: Mapping[str, int] = {chr(byte): byte for byte in PRINTABLE} | {
    chr(0x100 + at): byte for at, byte in enumerate(OTHERS)
}
BYTE_LEVEL = "ByteLevel"
WITHOUT_EFFECT = ("Fuse",)
"""Decoders that leave a single token as it is."""


def decoded(text: str) -> str:
    """A token as this decoder gives it; one with a letter that stands for no byte stays as it is.

    >>> decoded("<|d\u00e9but|>"), decoded("\u00c3\u00a9"), decoded("\u65e5\u00e9")
    ('<|d\ufffdbut|>', '\u00e9', '\u65e5\u00e9')
    """
    if any(letter not in BYTES for letter in text):
        return text
    return bytes(BYTES[letter] for letter in text).decode(errors="replace")


def comes_back(text: str, tokenizer: Mapping[str, Any] | None) -> str | None:
    """What the decoder of a tokenizer.json makes of an added token; ``None`` where it is not known to requant.

    Without one, transformers makes a tokenizer of byte pairs.
    """
    if tokenizer is None:
        return decoded(text)
    steps = {*_steps(tokenizer.get("decoder"))} - {*WITHOUT_EFFECT}
    if not steps:
        return text
    return decoded(text) if steps == {BYTE_LEVEL} else None


def _steps(decoder: object) -> Iterable[str]:
    """The types of the decoders that a token goes through; a list of such is not gone into again."""
    if decoder is None:
        return []
    kind, steps = (decoder.get(key) for key in ("type", "decoders")) if isinstance(decoder, dict) else ("", None)
    if kind == "Sequence" and isinstance(steps, list):
        return [str(each.get("type")) if isinstance(each, dict) else "" for each in steps]
    return [str(kind)]
