"""Reading SentencePiece models (``tokenizer.model``): the pieces of a vocabulary, from hands unknown.

Format: ``ModelProto`` of https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto in the wire
form of https://protobuf.dev/programming-guides/encoding. Only the pieces are read; how the model was trained and how it
normalizes text are passed over. Every length is compared with what is left before anything is taken by it.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, NoReturn

from requant.ground.errors import FormatError

MAX_PIECES = 1 << 21
"""Far above every published vocabulary."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Kinds of a field on the wire; the others are long out of use."""
PIECES, TEXT, SCORE, KIND = 1, 1, 2, 3
"""Numbers of fields: of a model its pieces, of a piece the rest."""


class Kind(IntEnum):
    """``ModelProto.SentencePiece.Type``, whose numbers GGUF files use for their tokens too."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One token; ``score`` is a float32."""

    text: str
    score: float
    kind: Kind


def read_pieces(data: bytes, name: str) -> list[Piece]:
    """Read the pieces of a model, by id.

    Raises:
        FormatError: one sentence naming the file and the piece, for anything that SentencePiece itself refuses in the
            pieces, and for anything that breaks the format.
    """
    pieces: list[Piece] = []
    seen: set[str] = set()
    for number, wire, value in _fields(data, name):
        if (number, wire) != (PIECES, BYTES):
            continue
        if len(pieces) == MAX_PIECES:
            _fail(name, f"holds more than {MAX_PIECES:,} pieces: it is damaged or hostile")
        piece = _piece(value, f"{name} at piece {len(pieces):,}")
        if not piece.text or piece.text in seen:
            _fail(name, f"at piece {len(pieces):,} has a text that is empty or not its own: it is damaged")
        seen.add(piece.text)
        pieces.append(piece)
    if sum(piece.kind is Kind.UNKNOWN for piece in pieces) != 1:
        _fail(name, "does not hold one piece for what is unknown: it is damaged, or no SentencePiece model")
    return pieces


def _piece(data: bytes, where: str) -> Piece:
    text, score, kind = b"", 0.0, int(Kind.NORMAL)
    for number, wire, value in _fields(data, where):
        # Of a field that comes twice the last one counts.
        if (number, wire) == (TEXT, BYTES):
            text = value
        elif (number, wire) == (SCORE, FIXED32):
            [score] = struct.unpack("<f", value)
        elif (number, wire) == (KIND, VARINT):
            kind = int.from_bytes(value, "little")
    try:
        return Piece(text.decode(), score, Kind(kind))
    except ValueError as error:
        raise FormatError(f"{where} has no UTF-8 text or no known type: it is damaged") from error


def _fields(data: bytes, where: str) -> Iterator[tuple[int, int, bytes]]:
    """Number, wire kind and contents of every field; a varint as its value in little-endian bytes."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position, where)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(data, position, where)
            yield number, wire, value.to_bytes(8, "little")
            continue
        if wire == BYTES:
            length, position = _varint(data, position, where)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            _fail(where, f"has a field of kind {wire}: it is damaged, or no SentencePiece model")
        if length > len(data) - position:
            _fail(where, "ends within a field: it is truncated, or no SentencePiece model")
        yield number, wire, data[position : position + length]
        position += length


def _varint(data: bytes, position: int, where: str) -> tuple[int, int]:
    """A number of up to ten bytes, of which 64 bits count, and where it ends."""
    end, last = position, min(position + 10, len(data))
    while end < last and data[end] >= 0x80:
        end += 1
    if end == last:
        _fail(where, "holds a number that does not end: it is damaged, or no SentencePiece model")
    value = 0
    for shift, byte in enumerate(data[position : end + 1]):
        value |= (byte & 0x7F) << (7 * shift)
    return value & ((1 << 64) - 1), end + 1


def _fail(where: str, sentence: str) -> NoReturn:
    raise FormatError(f"{where} {sentence}")
