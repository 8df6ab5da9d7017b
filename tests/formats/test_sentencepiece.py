"""requant.formats.sentencepiece: what is read of a model, and that nothing else gets through. SentencePiece itself is asked in e2e."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.formats import sentencepiece
from requant.formats.sentencepiece import Kind, Piece, read_pieces
from requant.ground.errors import FormatError
from support.vocabularies import MODEL, PIECES, model_bytes

UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
SCORES = st.floats(width=32, allow_nan=False)


@given(
    st.lists(
        st.builds(Piece, TEXTS, SCORES, st.sampled_from([kind for kind in Kind if kind is not Kind.UNKNOWN])),
        max_size=5,
        unique_by=lambda piece: piece.text,
    )
)
def test_what_is_written_is_read(pieces: list[Piece]) -> None:
    pieces = [piece for piece in pieces if piece.text != UNKNOWN.text]
    assert read_pieces(model_bytes([UNKNOWN, *pieces]), "x") == [UNKNOWN, *pieces]


def piece(*fields: bytes) -> bytes:
    """A model of the unknown piece, and one more of these fields."""
    data = b"".join(fields)
    return model_bytes([UNKNOWN]) + bytes((0x0A, len(data))) + data


TEXT = b"\x0a\x01a"
READ = {
    "no score, no type": (piece(TEXT), Piece("a", 0.0, Kind.NORMAL)),
    "the last one counts": (piece(b"\x0a\x01b", TEXT, b"\x18\x03\x18\x05"), Piece("a", 0.0, Kind.UNUSED)),
    "fields of later versions": (piece(TEXT, b"\x22\x02xy", b"\x29" + bytes(8), b"\xa0\x06\x01"), Piece("a", 0.0, Kind.NORMAL)),
    "a type in ten bytes": (piece(TEXT, b"\x18\x83" + b"\x80" * 8 + b"\x00"), Piece("a", 0.0, Kind.CONTROL)),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), READ.values(), ids=READ)
def test_forms_of_a_piece(data: bytes, expected: Piece) -> None:
    assert read_pieces(data, "x") == [UNKNOWN, expected]


BROKEN = {
    "nothing": (b"", "x does not hold one piece for what is unknown"),
    "two for what is unknown": (model_bytes([UNKNOWN, Piece("a", 0.0, Kind.UNKNOWN)]), "x does not hold one piece"),
    "one text twice": (model_bytes([UNKNOWN, *[Piece("a", 0.0, Kind.NORMAL)] * 2]), "x at piece 2 has a text that is empty or not its own"),
    "no text": (piece(b"\x18\x01"), "x at piece 1 has a text that is empty"),
    "no UTF-8": (piece(b"\x0a\x01\xff"), "x at piece 1 has no UTF-8 text"),
    "a type that is none": (piece(TEXT, b"\x18\x09"), "x at piece 1 has no UTF-8 text or no known type"),
    "a length without end": (b"\x0a" + b"\xff" * 20, "x holds a number that does not end"),
    "cut within a length": (b"\x0a", "x holds a number that does not end"),
    "more than there is": (b"\x0a\xff\xff\xff\xff\x0f", "x ends within a field"),
    "cut within a piece": (MODEL[:1000], "x ends within a field"),
    "cut within a score": (piece(TEXT, b"\x15\x00\x00"), "x at piece 1 ends within a field"),
    "a group": (b"\x0b\x0c", "x has a field of kind 3"),
    "text of tiktoken": (b"IQ== 0\nIg== 1\n", "x "),
}  # fmt: skip


@pytest.mark.parametrize(("data", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_pieces(data, "x")
    assert str(caught.value).startswith(said) and str(caught.value).isprintable()


def test_more_pieces_than_any_model_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencepiece, "MAX_PIECES", len(PIECES) - 1)
    with pytest.raises(FormatError, match="x holds more than 266 pieces"):
        read_pieces(MODEL, "x")


@given(st.integers(0, len(MODEL)), st.binary(max_size=3))
def test_no_change_gives_another_exception(place: int, other: bytes) -> None:
    with suppress(FormatError):
        read_pieces(MODEL[:place] + other + MODEL[place + len(other) :], "x")
