"""The house keeps its measures: rooms of a page or two, names that say something, and doors that are really used.

``make fix`` writes again which rooms of each wing others enter.
"""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from support.checkout import ROOT

SCRIPTS = ROOT / "scripts"
HOUSE = SCRIPTS / "requant"
MODULES = sorted(HOUSE.rglob("*.py"))
FACES = [path for path in MODULES if path.name == "__init__.py" and path.parent != HOUSE]
ADAPTERS = sorted(SCRIPTS.glob("*.py"))
RULES = sorted([ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk"), *(ROOT / "workflow").glob("Snakefile")])
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LONGEST_FILE = 400
LONGEST_FUNCTION = 50
LONGEST_ADAPTER = 15
SAYS_NOTHING = re.compile(r"_*(common_)?(utils?|helpers?|misc)")
FIX = "run make fix"


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Measures.


@pytest.mark.parametrize("files", [MODULES, TESTS], ids=["modules", "tests"])
def test_a_file_is_one_room(files: Sequence[Path]) -> None:
    lines = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    long = {name: count for name, count in lines.items() if count > LONGEST_FILE}
    assert not long, f"over {LONGEST_FILE} lines: split by topic, each part with a name of its own"


def test_a_function_fits_on_a_page() -> None:
    long = {}
    for path in MODULES:
        for node in ast.walk(_parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines([node]) > LONGEST_FUNCTION:
                long[f"{shown(path)}: {node.name}"] = _lines([node])
    assert not long, f"over {LONGEST_FUNCTION} lines: let a part of it be a function with a name of its own"


def test_an_adapter_only_adapts() -> None:
    """Imports stand apart: their number follows from what is adapted."""
    lines = {
        shown(path): _lines(node for node in _parsed(path).body[1:] if not _only_imports(node)) for path in ADAPTERS
    }
    long = {name: count for name, count in lines.items() if count > LONGEST_ADAPTER}
    assert not long, f"over {LONGEST_ADAPTER} lines: move what it knows into requant.pipeline"


def _only_imports(node: ast.stmt) -> bool:
    return all(map(_is_import, node.body if isinstance(node, ast.If) else [node]))


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _lines(nodes: Iterator[ast.stmt] | list[ast.stmt]) -> int:
    """From the first line of each to its last; decorators do not count."""
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in nodes)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


# Names and doors.


def test_names_say_what_is_inside() -> None:
    empty = [shown(path) for path in (*MODULES, *ADAPTERS, *RULES, *TESTS)
             if any(SAYS_NOTHING.fullmatch(Path(part).stem) for part in path.relative_to(ROOT).parts)]  # fmt: skip
    assert not empty, "name it after the one thing that it holds, or put its parts where they belong"


def test_every_folder_and_every_adapter_says_what_it_is() -> None:
    folders = {path.parent / "__init__.py" for path in MODULES}
    silent = [shown(path) for path in sorted(folders) if not path.exists() or not ast.get_docstring(_parsed(path))]
    silent += [shown(path) for path in ADAPTERS if not ast.get_docstring(_parsed(path))]
    assert not silent, "begin it with a docstring: what lives there and who may enter, or what it makes"


@pytest.mark.parametrize("face", FACES, ids=shown)
def test_a_face_lists_the_rooms_that_others_enter(face: Path) -> None:
    assert _listed(face) == entered(face.parent), FIX


def test_a_face_leads_nowhere_else() -> None:
    """What it imports is loaded by everybody who enters one room, and by every start of the command."""
    importing = [shown(face) for face in FACES if any(map(_is_import, ast.walk(_parsed(face))))]
    assert not importing, "hand on names of rooms in __all__, and let others import from these"


def entered(package: Path) -> list[str]:
    """The rooms of a package from which a module outside it, an adapter, a rule or the installed command imports."""
    inside = f"{_module(package)}."
    targets = {target for importer, target in _doors() if not f"{importer}.".startswith(inside)}
    return sorted({target.removeprefix(inside).partition(".")[0] for target in targets if target.startswith(inside)})


@cache
def _doors() -> list[tuple[str, str]]:
    """Who imports which module: names of modules, and of files that are none."""
    found = [(_module(path), target) for path in MODULES for target in _imports(path)]
    found += [(shown(path), target) for path in ADAPTERS for target in _imports(path)]
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        found += [
            (shown(path), name) for name in re.findall(r"^\s*(?:from|import) (requant[\w.]*)", text, re.MULTILINE)
        ]
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return [*found, *(("pyproject.toml", command.partition(":")[0]) for command in commands.values())]


def _imports(path: Path) -> Iterator[str]:
    """The modules of requant from which a file imports, at its top or later."""
    known = {_module(module) for module in MODULES}
    for node in ast.walk(_parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            # What is imported from a package may be a module itself.
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in known else node.module for name in inner)


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__")


def _listed(face: Path) -> list[str] | None:
    """What ``__all__`` lists; nothing where there is none."""
    for node in _parsed(face).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def with_rooms(text: str, rooms: list[str]) -> str:
    """The text of a face with its list of rooms made new, as ``ruff format`` writes it."""
    line = f"__all__ = {json.dumps(rooms)}"
    if len(line) > 120:
        line = "\n".join(["__all__ = [", *(f'    "{room}",' for room in rooms), "]"])
    rest = re.sub(r"^__all__ = \[.*?\]$", "", text, flags=re.DOTALL | re.MULTILINE).rstrip()
    return f"{rest}\n\n{line}\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit(f"usage: {sys.argv[0]} --fix")
    for found in FACES:
        found.write_text(with_rooms(found.read_text(encoding="utf-8"), entered(found.parent)), encoding="utf-8")
