"""Laws of requant.ground.canonical: one serialization, and hostile JSON refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.ground.canonical import canonical, parse
from requant.ground.errors import FormatError

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_round_trip(document: Any) -> None:
    data = canonical(document)
    assert parse(data, "x") == document
    assert canonical(parse(data, "x")) == data
    assert data.endswith(b"\n")
    assert not data.endswith(b"\n\n")


@given(st.dictionaries(st.text(), st.integers(), max_size=6), st.randoms())
def test_the_order_of_keys_moves_nothing(document: dict[str, int], random: Any) -> None:
    pairs = list(document.items())
    random.shuffle(pairs)
    assert canonical(dict(pairs)) == canonical(document)


def test_the_one_form() -> None:
    assert canonical({"b": [1, "é\n"], "a": {}}) == '{\n  "a": {},\n  "b": [\n    1,\n    "é\\n"\n  ]\n}\n'.encode()


REFUSED: dict[str, tuple[Any, str]] = {
    "a float": (1.5, "the document is the float 1.5; write an integer or text"),
    "a deep float": ({"a": [{"b": 2.0}]}, "a[0].b is the float 2.0; write an integer or text"),
    "a float in a tuple": ((0, 1.0), "[1] is the float 1.0"),
    "not a number": ({"x": float("nan")}, "x is the float nan"),
    "infinity": ({"x": float("inf")}, "x is the float inf"),
    "half a character": ({"x": "\ud800"}, "holds text that is not Unicode"),
    "a key that is no text": ({1: 2}, "the key 1 is not text"),
}


@pytest.mark.parametrize(("document", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_has_no_one_form(document: Any, words: str) -> None:
    with pytest.raises(FormatError) as error:
        canonical(document)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


HOSTILE = {
    "nothing": b"",
    "not JSON": b"<html>",
    "two documents": b"{} {}",
    "a duplicate key": b'{"sha256": "a", "sha256": "b"}',
    "a deep duplicate key": b'{"a": [{"b": 1, "b": 1}]}',
    "NaN": b'{"a": NaN}',
    "infinity": b"[-Infinity]",
    "deep nesting": b"[" * 200_000 + b"]" * 200_000,
    "deep nesting of mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "another encoding": b'{"a": "\xff"}',
    "an endless number": b"9" * 100_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_json(data: bytes) -> None:
    with pytest.raises(FormatError) as error:
        parse(data, "manifest.json")
    said = str(error.value)
    assert said.startswith("manifest.json is not valid JSON (")
    assert said.endswith("): get the file again")
    assert len(said) < 300
    assert "\n" not in said
