"""requant.documents.pins: a pin names bytes, or it is refused in one sentence."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from requant.documents.pins import CorpusPin, ModelPin, PackagePin, TextPin, ToolchainPin, read_pins
from requant.ground.digests import Known
from requant.ground.errors import RecipeError
from support.checkout import ROOT

GONE = object()
QWEN, SMOL = "models/Qwen3-4B-Thinking-2507", "models/SmolLM2-135M-Instruct"
WIKI, DOCS = "corpora/wikitext-2-raw", "corpora/llama.cpp-docs"
LLAMA = "toolchains/llama.cpp-0c1e57098bba"
FILES: dict[Any, Any] = {"config.json": {}, "model.safetensors": {}}
PARQUET = "wikitext-2-raw-v1/test-00000-of-00001.parquet"


def edited(place: str, value: Any) -> dict[str, Any]:
    """The shipped pin table with one entry (``a|b``, as names hold dots and slashes) set, or removed."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "config/pins.yaml").read_text(encoding="utf-8"))
    section, name, *keys = place.split("/", 2)
    path = [section, name, *(keys[0].split("|") if keys else [])]
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def write(folder: Path, document: object) -> Path:
    path = folder / "pins.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def test_the_shipped_table() -> None:
    pins = read_pins(ROOT / "config/pins.yaml", "config/pins.yaml")
    assert not pins.models["Qwen3-4B-Thinking-2507"].is_gguf
    assert pins.models["SmolLM2-135M-Instruct"].is_gguf
    assert list(pins.models["Qwen3-4B-Thinking-2507"].files) == sorted(pins.models["Qwen3-4B-Thinking-2507"].files)
    assert pins.models["Qwen3-4B-Thinking-2507"].files["config.json"] == Known()
    assert pins.corpora["llama.cpp-docs"].repo is None
    for corpus in pins.corpora.values():
        assert all(text.expected.proves_content for text in corpus.texts.values())


WRONG = {
    "unknown key": (f"{QWEN}/revison", "0" * 40, "revison is not a known key (did you mean revision?)"),
    "missing key": (f"{QWEN}/licence", GONE, "licence is missing; write an SPDX licence expression"),
    "a branch": (f"{QWEN}/revision", "main", "revision is 'main'; write a full commit id"),
    "a short commit": (f"{QWEN}/revision", "768f209d9ea8", "revision is '768f209d9ea8'; write a full"),
    "upper case": (f"{QWEN}/revision", "A" * 40, "; write a full commit id, 40 lower-case"),
    "a line end": (f"{QWEN}/revision", "0" * 40 + "\n", r"0\n'; write a full commit id"),
    "digits without quotes": (f"{QWEN}/revision", int("1" * 40), "1; write text: a full commit id"),
    "no revision": (f"{QWEN}/revision", GONE, "revision is missing; write a full commit id of Qwen/"),
    "no owner": (f"{QWEN}/repo", "Qwen3", "repo is 'Qwen3'; write a repository as owner/name"),
    "no files": (f"{QWEN}/files", {}, "files is an empty mapping; write file names"),
    "pickle weights": (
        f"{QWEN}/files",
        FILES | {"pytorch_model.bin": {}},
        "files.pytorch_model.bin is a pickle, which can run code when read; pin safetensors",
    ),
    "pickle weights in upper case": (f"{QWEN}/files", FILES | {"a.PT": {}}, "files.a.PT is a pickle"),
    "pickle weights by their full name": (f"{QWEN}/files", FILES | {"a.pickle": {}}, "files.a.pickle is a pickle"),
    "code": (
        f"{QWEN}/files",
        FILES | {"modeling_qwen.py": {}},
        "files.modeling_qwen.py is code from a model repository, which is never run; leave it out",
    ),
    "no weights": (f"{QWEN}/files", {"config.json": {}}, "files names no weights; list its .safetensors"),
    "path traversal": (f"{QWEN}/files", FILES | {"../x": {}}, "files.../x is not a valid name"),
    "deep traversal": (f"{QWEN}/files", FILES | {"a/../../x": {}}, "files.a/../../x is not a valid name"),
    "absolute path": (f"{QWEN}/files", FILES | {"/abs": {}}, "files./abs is not a valid name"),
    "empty part": (f"{QWEN}/files", FILES | {"a//b": {}}, "files.a//b is not a valid name"),
    "backslash": (f"{QWEN}/files", FILES | {"a\\b": {}}, "is not a valid name; write file names"),
    "hidden": (f"{QWEN}/files", FILES | {".git/config": {}}, "files..git/config is not a valid name"),
    "a line end in a name": (f"{QWEN}/files", FILES | {"x\n": {}}, r"x\n' is not one line of text; write"),
    "a number as a name": (f"{QWEN}/files", FILES | {1: {}}, "files.1 is not one line of text; write it in quotes"),
    "null for a file": (f"{QWEN}/files|config.json", None, "config.json is empty; write a mapping"),
    "digest without size": (f"{QWEN}/files|config.json", {"sha256": "0" * 64}, "'size' is a dependency of 'sha256'"),
    "negative size": (f"{QWEN}/files|config.json", {"size": -1}, "size is -1; write a size in bytes"),
    "another digest": (
        f"{QWEN}/files|config.json",
        {"size": 1, "sha256": "0" * 40},
        "; write a SHA-256, 64 lower-case",
    ),
    "modelscope without a name": (f"{QWEN}/modelscope", {}, "modelscope.repo is missing; write"),
    "package without digest": (f"{SMOL}/package|sha256", GONE, "package.sha256 is missing; write a SHA-256, 64"),
    "package folder traversal": (f"{SMOL}/package|folder", "../..", "package.folder is '../..'; write"),
    "absolute package folder": (f"{SMOL}/package|folder", "/etc", "package.folder is '/etc'; write"),
    "packaged file": (
        f"{SMOL}/files|SmolLM2-135M-Instruct.Q4_1.gguf",
        {},
        ".gguf.sha256 is missing; write the SHA-256",
    ),
    "data set without revision": (f"{WIKI}/revision", GONE, "revision is missing; a data set needs repo"),
    "data set without config": (f"{WIKI}/config", GONE, "config is missing; a data set needs repo"),
    "data set without files": (f"{WIKI}/files", GONE, "files is missing; a data set needs repo"),
    "data file without digest": (f"{WIKI}/files|{PARQUET}", {}, f"files.{PARQUET}.sha256 is missing; write"),
    "text without split": (f"{WIKI}/texts|train|split", GONE, "texts.train.split is missing"),
    "text without paths": (f"{DOCS}/texts|train|paths", GONE, "texts.train.paths is missing"),
    "text name traversal": (f"{DOCS}/texts|train|name", "../x", "name is '../x'; write the file name"),
    "no texts": (f"{DOCS}/texts", {}, "texts is an empty mapping; write the texts that a recipe can use"),
    "a tag for a commit": (f"{LLAMA}/commit", "b6000", "commit is 'b6000'; write a full commit id"),
    "no tree id": (f"{LLAMA}/tree", GONE, "tree is missing; write the git tree id"),
    "no way": (f"{LLAMA}/sdist", GONE, "has none; write exactly one of sdist, git or checkout"),
    "two ways": (f"{LLAMA}/git", "https://x", "has sdist and git; write exactly one of sdist, git or checkout"),
    "sdist without digest": (f"{LLAMA}/sdist|sha256", GONE, "sdist.sha256 is missing; write a SHA-256"),
    "questions from nowhere": ("suites/bfcl/package", GONE, "bfcl has neither package nor repo; write one of them"),
    "questions from two places": ("suites/bfcl/repo", "a/b", "bfcl has both package and repo; write one of them"),
    "questions at no commit": ("suites/mmlu/revision", GONE, "mmlu.revision is missing; a data set needs repo"),
    "questions in no file": ("suites/mmlu/files", GONE, "mmlu.files is missing; a data set needs repo"),
    "questions folder traversal": ("suites/bfcl/package|folder", "../x", "package.folder is '../x'; write"),
    "sdist folder traversal": (f"{LLAMA}/sdist|folder", "../x", "sdist.folder is '../x'; write"),
}


@pytest.mark.parametrize(("place", "value", "words"), WRONG.values(), ids=list(WRONG))
def test_wrong_pins(tmp_path: Path, place: str, value: Any, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        read_pins(write(tmp_path, edited(place, value)), "config/pins.yaml")
    assert words in str(error.value)
    assert str(error.value).startswith("config/pins.yaml: ")
    assert place.split("/")[1] in str(error.value)
    assert "\n" not in str(error.value)


# ---- pin -> input -> pin, but for the ways to get the bytes

PINS = read_pins(ROOT / "config/pins.yaml")


def package_of(found: Mapping[str, Any] | None) -> PackagePin | None:
    return found and PackagePin(found["project"], found["version"], Known(found["size"], found["sha256"]), folder="")


def without_folder(pin: PackagePin | None) -> PackagePin | None:
    return pin and replace(pin, folder="")


def files_of(found: Mapping[str, Any]) -> dict[str, Known]:
    return {file["name"]: Known(file["size"], file["sha256"]) for file in found["files"]}


@pytest.mark.parametrize("pin", PINS.models.values(), ids=list(PINS.models))
def test_a_models_input(pin: ModelPin) -> None:
    found = pin.as_input()
    origin = (found["name"], found["repo"], found["revision"], found["licence"], package_of(found["package"]))
    assert ModelPin(*origin, None, files_of(found)) == replace(
        pin, package=without_folder(pin.package), modelscope=None
    )


@pytest.mark.parametrize("pin", PINS.corpora.values(), ids=list(PINS.corpora))
def test_a_corpus_input(pin: CorpusPin) -> None:
    found = pin.as_input(pin.texts)
    origin = (found["name"], found["repo"], found["revision"], found["config"], found["licence"])
    texts = {
        role: TextPin(text["name"], None, (), Known(text["size"], text["sha256"]))
        for role, text in found["texts"].items()
    }
    wanted = {role: replace(text, split=None, paths=()) for role, text in pin.texts.items()}
    assert CorpusPin(*origin, files_of(found), texts) == replace(pin, texts=wanted)
    assert pin.as_input({})["texts"] == {}, "only the texts that a recipe uses"


@pytest.mark.parametrize("pin", PINS.toolchains.values(), ids=list(PINS.toolchains))
def test_a_toolchains_input(pin: ToolchainPin) -> None:
    found = pin.as_input()
    origin = (found["name"], found["commit"], found["tree"], package_of(found["sdist"]))
    assert ToolchainPin(*origin, None, None) == replace(pin, sdist=without_folder(pin.sdist), git=None, checkout=None)


def test_a_missing_section(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"toolchains is missing; write llama.cpp sources, by name"):
        read_pins(write(tmp_path, {"models": {}, "corpora": {}}))
