"""requant.documents.schemas: every refusal is one sentence that names the key, what was found and what to write."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from requant.documents import schemas
from requant.documents.evaluation import STREAMS
from requant.documents.schemas import SCHEMAS, SUFFIX, fault, read_yaml
from requant.ground.canonical import canonical
from requant.ground.digests import GIT_ID, SHA256
from requant.ground.errors import RecipeError
from requant.places.repository import RECORDED_ID
from requant.toolchain.perplexity import QUANTILES

NESTING = ("properties", "$defs", "patternProperties")


def parts(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every sub-schema with its place."""
    if not isinstance(schema, dict):
        return
    yield where, schema
    for group in NESTING:
        for name, part in schema.get(group, {}).items():
            yield from parts(part, f"{where}.{name}")
    for part in schema.get("oneOf", ()):
        yield from parts(part, f"{where}.oneOf")
    for key in ("items", "additionalProperties"):
        yield from parts(schema.get(key), f"{where}.{key}")


@pytest.mark.parametrize("schema", sorted(path.name.removesuffix(SUFFIX) for path in SCHEMAS.iterdir()))
def test_every_key_is_described_and_closed(schema: str) -> None:
    """Errors quote the descriptions, and an open mapping would let a typing error pass."""
    for where, part in parts(read_yaml(SCHEMAS / f"{schema}.schema.yaml"), schema):
        assert "$ref" in part or part.get("description"), where
        assert part.get("type") != "object" or "additionalProperties" in part, where
        # YAML reads off, on, yes and no as truth values where no quotes are around them.
        assert all(isinstance(name, str) for name in (*part.get("required", ()), *part.get("properties", {}))), where


def required_keys() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every sub-schema that requires keys: its place, itself, and the definitions that it may refer to."""
    for path in sorted(SCHEMAS.iterdir()):
        root = read_yaml(path)
        for where, part in parts(root, path.name.removesuffix(SUFFIX)):
            if "required" in part:
                yield where, part, root.get("$defs", {})


def test_every_missing_key_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the schema lists it by its name or by a pattern."""
    found = [*required_keys()]
    for path in SCHEMAS.iterdir():
        (tmp_path / path.name).symlink_to(path.resolve())
    for number, (_, part, definitions) in enumerate(found):
        (tmp_path / f"{number}{SUFFIX}").write_bytes(canonical({**part, "$defs": definitions}))
    monkeypatch.setattr(schemas, "SCHEMAS", tmp_path)
    for number, (where, part, _) in enumerate(found):
        for missing in part["required"]:
            document = {key: None for key in part["required"] if key != missing}
            said = fault(document, str(number), "x.json")
            assert said is not None, where
            assert re.fullmatch(re.escape(f"x.json: {missing} is missing; write ") + r"\S[^\n]*", said), (where, said)


HALF = RECORDED_ID.pattern.partition("/")[0]
PATTERNS = {
    **dict.fromkeys(("sha256", "chat_template"), SHA256.pattern),
    **dict.fromkeys(("commit", "revision", "tree"), GIT_ID.pattern),
    "repo": RECORDED_ID.pattern,
    "publisher": HALF,
}


def test_digests_commits_and_names_have_one_pattern() -> None:
    """What the code takes for one, the schemas do, wherever a key of that name stands; and for no other key."""
    found = set()
    for schema in ("recipe", "pins", "manifest", "evaluation"):
        document = read_yaml(SCHEMAS / f"{schema}.schema.yaml")
        for where, part in parts(document, schema):
            name = where.rpartition(".")[2]
            whole = document["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
            if name in PATTERNS:
                found.add(name)
                assert whole["pattern"] == f"^{PATTERNS[name]}$", where
            else:
                assert "0-9a-f]{" not in part.get("pattern", ""), where
    assert found == set(PATTERNS)


def test_an_evaluation_has_the_streams_and_quantiles_that_are_measured() -> None:
    required = {where: part.get("required") for where, part in parts(read_yaml(SCHEMAS / "evaluation.schema.yaml"), "")}
    [streams] = [keys for where, keys in required.items() if where.endswith(".streams")]
    [quantiles] = [keys for where, keys in required.items() if where.endswith(".quantiles")]
    assert streams == [str(count) for count in STREAMS]
    assert quantiles == list(QUANTILES.values())


DOCUMENTS: dict[str, tuple[Any, str]] = {
    "an empty file": (None, "the document is empty; write a mapping"),
    "a list": ([], "the document is an empty list; write a mapping"),
    "text": ("recipe: 1", "the document is 'recipe: 1'; write a mapping"),
    "nothing in it": ({}, "models is missing; write model checkpoints"),
    "a number as a key": ({1: {}}, "1 is not one line of text; write it in quotes"),
    "a deeper number as a key": ({"models": {3.5: {}}}, "models.3.5 is not one line of text; write it in quotes"),
    "yes, no, on and off are no text in YAML": ({"models": [{True: 1}]}, "models.0.True is not one line of text"),
}


@pytest.mark.parametrize(("document", "words"), DOCUMENTS.values(), ids=list(DOCUMENTS))
def test_documents_of_another_shape(document: Any, words: str) -> None:
    said = fault(document, "pins", "pins.yaml")
    assert said is not None
    assert said.startswith("pins.yaml: ")
    assert words in said
    assert "\n" not in said


TENFOLD = b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1) if n else b"x"] * 10)) for n in range(10))
MERGED = b"".join(
    b"a%d: &a%d {%s}\n" % (n, n, b"<<: [%s]" % b",".join([b"*a%d" % (n - 1)] * 10) if n else b"x: 1") for n in range(10)
)
BROKEN = {
    "syntax": (b"a: [1, 2\nb: 3\n", "not valid YAML at line 2"),
    "another encoding": (b"a: \xff\n", "not valid YAML"),
    "a tag that runs code": (b"!!python/object/apply:os.system [id]\n", "not valid YAML at line 1"),
    "a day that is none": (b"a: 1\nb: 2024-02-30\n", "not valid YAML at line 2"),
    "a number of 5,000 digits": (b"a: 1\nb:\n- " + b"9" * 5000, "not valid YAML at line 3"),
    "a tag that does not fit": (b"a: !!bool x\n", "not valid YAML at line 1"),
    "a time that is none": (b"!!timestamp x", "not valid YAML at line 1"),
    "a hundred thousand brackets": (b"[" * 100_000, "not valid YAML: fix"),
    "a list that holds itself": (b"b: 1\na: &a [*a]\n", "not valid YAML at line 2"),
    "aliases of aliases": (TENFOLD, "not valid YAML at line 6"),
    "merged aliases of aliases": (MERGED, "not valid YAML at line 6"),
    "a sign that is none": (b'a: "\\UFFFFFFFF"\n', "not valid YAML: fix"),
    "half a character": (b'a: 1\nb: "\\ud800"\n', "not valid YAML at line 2"),
    "a version of 5,000 digits": (b"%YAML " + b"9" * 5000 + b".1\n---\na: 1\n", "not valid YAML: fix"),
    "5,000 hexadecimal digits": (b"a: 0x" + b"F" * 5000, "not valid YAML at line 1"),
    "missing": (None, "cannot be read (No such file or directory): check the path"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=list(BROKEN))
def test_files_that_are_no_yaml(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(RecipeError) as error:
        read_yaml(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_anchors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": [{"x": 1}] * 2, "c": {"x": 1, "y": 2}}


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "is no file"),
        (Path("/dev/zero"), "is no file"),
        (Path("a\0b"), "is no path"),
    ):
        with pytest.raises(RecipeError, match=words):
            read_yaml(path)
