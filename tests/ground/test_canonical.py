"""Laws of requant.ground.canonical: one serialization, hostile JSON refused, and no machine in the identity."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.documents.manifest import SCHEMA, build_manifest
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


# ---- the manifest

RECIPE = {"recipe": 1, "name": "Tiny", "quants": ["Q4_K_M"]}


def step(name: str) -> dict[str, Any]:
    return {"name": name, "command": [name, "--threads", "{threads}"], "materials": [], "products": []}


def manifest(arithmetic: str = "native", features: tuple[str, ...] = ("avx2",), **build: Any) -> dict[str, Any]:
    builds = [
        {
            "variant": "strict",
            "definitions": {"GGML_CPU": "OFF"},
            "flags": ["-ffp-contract=off"],
            "own_code": [],
            **build,
        },
        {"variant": arithmetic, "definitions": {}, "flags": [], "own_code": [], **build},
    ]
    return build_manifest(
        RECIPE,
        {"model": {"name": "Tiny"}, "corpus": {"name": "text"}, "toolchain": {"name": "llama.cpp"}},
        builds,
        {"file": "m", "step": step("convert")},
        {"file": "i", "arithmetic": arithmetic, "features": list(features), "settings": {}, "step": step("calibrate")},
        [{"file": "q", "type": "Q4_K_M", "step": step("quantize")}],
    )


def test_what_a_manifest_holds() -> None:
    document = manifest()
    assert document["schema"] == SCHEMA
    assert document["recipe"]["document"] == RECIPE
    assert [each["name"] for each in document["steps"]] == ["convert", "calibrate", "quantize"]
    assert document["quants"] == [{"file": "q", "type": "Q4_K_M"}]
    assert document["model"] == {"file": "m"}
    assert parse(canonical(document), "manifest.json") == document


def test_compilers_and_binaries_stay_out() -> None:
    ours = manifest(compilers={"c": "gcc 12"}, binaries={"llama-quantize": {"size": 1, "sha256": "a"}}, commit="x")
    theirs = manifest(compilers={"c": "clang 19"}, binaries={"llama-quantize": {"size": 2, "sha256": "b"}}, commit="x")
    assert canonical(ours) == canonical(theirs)


@pytest.mark.parametrize(("arithmetic", "equal"), [("native", False), ("cuda-sm121", True), ("portable", True)])
def test_the_processor_counts_only_where_it_moves_bytes(arithmetic: str, *, equal: bool) -> None:
    ours, theirs = manifest(arithmetic, ("avx2",)), manifest(arithmetic, ("avx512f", "avx512_bf16"))
    assert (canonical(ours) == canonical(theirs)) == equal


def test_the_recipe_digest_is_of_its_one_form() -> None:
    document = manifest()
    again = json.loads(json.dumps(dict(reversed(RECIPE.items()))))
    other = build_manifest(again, {}, [], {"step": 1}, {"step": 2, "features": [], "arithmetic": "native"}, [])
    assert document["recipe"]["sha256"] == other["recipe"]["sha256"]
