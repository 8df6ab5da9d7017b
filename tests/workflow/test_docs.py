"""The documents say what the code does: tables, commands, links and the picture are compared with their sources.

``make fix`` writes the generated parts again.
"""

import ast
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import grimp
import pytest
import yaml

from requant.audit.forms.page import MARKS
from requant.audit.forms.tensor_map import MISSING
from requant.audit.limits import Limit
from requant.audit.metadata.comparison import Grade
from requant.audit.recipe.imatrix import Plausibility
from requant.audit.status import Metadata, Mix, Reading
from requant.formats.ggml import Arithmetic
from requant.ground.exit_codes import ExitCode
from requant.quantization.verdict import Verdict
from support.checkout import ROOT
from support.key_tables import key_table
from support.markdown import tokens
from support.metadata_changes import tables
from support.weight_changes import table

FIX = "run make fix"
KEYS = ROOT / "config" / "README.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
VERDICTS = tuple(ROOT / "docs" / f"verdicts{language}.md" for language in ("", ".zh-CN"))
PICTURE = ROOT / "docs" / "rulegraph.svg"
CODES = (*(ROOT / "docs" / f"install{language}.md" for language in ("", ".zh-CN")), *VERDICTS)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for name in ("config", "envs", "profiles", "docs")
                                          for path in (ROOT / name).rglob("*.md"))])  # fmt: skip


# The key tables.


def with_tables(text: str) -> str:
    """The document with what stands between ``<!-- begin X keys -->`` and ``<!-- end X keys -->`` made new."""

    def fresh(match: re.Match[str]) -> str:
        return f"{match[1]}\n{key_table(match[2])}\n{match[3]}"

    return re.sub(r"(<!-- begin (\w+) keys -->).*?(<!-- end \2 keys -->)", fresh, text, flags=re.DOTALL)


# The table of exit codes.


def code_table(chinese: bool) -> str:
    """Every exit code and what it says, as a Markdown table."""
    rows = [f"| {int(code)} | {code.chinese if chinese else code.english} |" for code in ExitCode]
    return "\n".join(["| 退出码 | 含义 |" if chinese else "| exit code | meaning |", "|---|---|", *rows])


def with_codes(document: Path) -> str:
    """The document with what stands between ``<!-- begin exit codes -->`` and ``<!-- end exit codes -->`` made new."""
    table = code_table(document.name.endswith(".zh-CN.md"))
    begin, end = "<!-- begin exit codes -->", "<!-- end exit codes -->"
    return re.sub(f"{begin}.*?{end}", f"{begin}\n{table}\n{end}", document.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("document", CODES, ids=lambda path: path.name)
def test_the_exit_codes_are_those_of_the_table(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert text.count("<!-- begin exit codes -->") == 1
    assert text == with_codes(document), FIX


@pytest.mark.parametrize("document", VERDICTS, ids=lambda path: path.name)
def test_every_word_of_an_audit_is_explained(document: Path) -> None:
    """In a table of its own question, or where its kind is."""
    text = document.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert {str(word) for words in (Verdict, Mix, Metadata, Reading, Limit) for word in words} | {MISSING} <= rows
    others = {str(word) for words in (Plausibility, Grade, Arithmetic) for word in words}
    assert {word for word in others if f"`{word}`" not in text} == set()


@pytest.mark.parametrize("document", VERDICTS, ids=lambda path: path.name)
def test_every_limit_stands_in_the_table_of_limits_and_every_mark_is_told(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    row = r"\| `\w+` \| [^|\n]+ \| [^|\n]+ \|\n"
    [rows] = [found for found in re.findall(f"(?:{row})+", text) if "`good`" in found]
    assert re.findall(r"^\| `(\w+)`", rows, re.MULTILINE) == [str(limit) for limit in Limit]
    assert [
        word for word, mark in MARKS.items() if not re.search(rf"`{re.escape(mark)}`(?: is| 是)? `{word}`", text)
    ] == []


def in_chinese(made: str) -> str:
    """Generated tables with each cell, item and line as ``tests/support/verdicts.zh.yaml`` has it; code stays."""
    words = yaml.safe_load((ROOT / "tests" / "support" / "verdicts.zh.yaml").read_text(encoding="utf-8"))
    code_alone = re.compile(r"`[^`]+`")
    cell = re.compile(r"(?<=\| )[^|]+(?= \|)|(?<=^- ).+|^\w.+", re.MULTILINE)
    return cell.sub(lambda found: found[0] if code_alone.fullmatch(found[0]) else words[found[0]], made)


def with_changes(document: Path) -> str:
    """The page with what stands between ``<!-- begin metadata tables -->`` and its end made new, and the like."""
    text = document.read_text(encoding="utf-8")
    for name, made in (("metadata tables", tables()), ("weight tables", table())):
        fresh = in_chinese(made) if document.name.endswith(".zh-CN.md") else made
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, fresh=f"{begin}\n{fresh}\n{end}": fresh, text, flags=re.DOTALL)
    return text


@pytest.mark.parametrize("document", VERDICTS, ids=lambda path: path.name)
def test_what_is_harmless_and_what_is_changed_is_what_the_tests_plant(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert text.count("<!-- begin metadata tables -->") == text.count("<!-- begin weight tables -->") == 1
    assert text == with_changes(document), FIX


def test_config_readme_lists_every_key() -> None:
    text = KEYS.read_text(encoding="utf-8")
    assert text.count("<!-- begin recipe keys -->") == text.count("<!-- begin pins keys -->") == 1
    assert text == with_tables(text), FIX


# The wings.


def wing_table() -> str:
    """Every wing from the top down, what its ``__init__`` says of it, and which of its rooms others enter."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    rows = []
    for wing in contracts[0]["layers"]:
        face = ast.parse((ROOT / "scripts" / "requant" / wing / "__init__.py").read_text(encoding="utf-8"))
        [rooms] = [node.value for node in face.body if isinstance(node, ast.Assign)]
        says = " ".join((ast.get_docstring(face) or "").split("\n\n")[0].split())
        rows.append(f"| `{wing}` | {says} | {', '.join(f'`{room}`' for room in ast.literal_eval(rooms))} |")
    return "\n".join(["| wing | what lives there | rooms that others enter |", "|---|---|---|", *rows])


def wing_drawing() -> str:
    """The wings with the imports between them, as far as they do not follow from others, in mermaid's language."""
    graph = grimp.build_graph("requant")
    wings = sorted(graph.find_children("requant"))
    arrows = {
        (start.removeprefix("requant."), end.removeprefix("requant."))
        for start in wings
        for end in wings
        if start != end and graph.direct_import_exists(importer=start, imported=end, as_packages=True)
    }
    longer = {(a, d) for a, b in _closure(arrows) for c, d in _closure(arrows) if b == c}
    lines = [f"  {start} --> {end}" for start, end in sorted(arrows - longer)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def with_wings(text: str) -> str:
    """The page with what stands between ``<!-- begin wings -->`` and ``<!-- end wings -->`` made new."""
    begin, end = "<!-- begin wings -->", "<!-- end wings -->"
    made = f"{wing_drawing()}\n\n{wing_table()}"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{made}\n{end}", text, flags=re.DOTALL)


def test_the_architecture_shows_the_wings() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert text.count("<!-- begin wings -->") == 1
    assert text == with_wings(text), FIX


def test_the_architecture_names_what_there_is() -> None:
    """A dotted name is a module's, or that of what is defined in one."""
    house = ROOT / "scripts" / "requant"
    named = re.findall(r"`((?:[a-z_]+\.)+[A-Za-z_]+)`", ARCHITECTURE.read_text(encoding="utf-8"))
    named = [name for name in named if (house / name.partition(".")[0]).is_dir()]
    assert len(named) > 20
    for name in named:
        place, parts = house, name.split(".")
        while parts and (place / parts[0]).is_dir():
            place /= parts.pop(0)
        module = place / (f"{parts[0]}.py" if parts else "__init__.py")
        assert module.exists(), name
        defined = set(re.findall(r"^(?:class |def )?(\w+)\b", module.read_text(), re.MULTILINE))
        assert not parts[1:] or parts[1] in defined, name


# The picture.


def rule_graph() -> str:
    """The rule graph of the demo in graphviz' language."""
    snakemake = [str(Path(sys.executable).parent / "snakemake"), "--rulegraph", "--configfile", "config/tiny.yaml"]
    done = subprocess.run([*snakemake, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=True)
    # The dry run speaks first.
    return done.stdout[done.stdout.index("digraph") :].strip() + "\n"


def drawn() -> bytes:
    """The rule graph without the arrows that follow from others, as SVG; needs graphviz."""
    graph = re.sub(r', color = "[^"]*", style="rounded"', "", rule_graph())
    plain = 'node[shape=box, style=rounded, fontname="sans-serif", fontsize=12, height=0.35, color="#57606a"]'
    graph = re.sub(r"node\[[^]]*\]", plain, graph)
    graph = re.sub(r"edge\[[^]]*\]", 'edge[arrowsize=0.7, color="#8c959f"]', graph)
    graph = graph.replace("margin=0]", "margin=0, ranksep=0.3, nodesep=0.25]")
    reduced = subprocess.run(["tred"], input=graph.encode(), capture_output=True, check=True).stdout
    svg = subprocess.run(["dot", "-Tsvg"], input=reduced, capture_output=True, check=True).stdout
    # Which graphviz drew it says nothing.
    return re.sub(rb"<!-- Generated by graphviz.*?-->\n", b"", svg, flags=re.DOTALL)


def test_the_picture_shows_the_rules() -> None:
    graph = rule_graph()
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    arrows = {(names[start], names[end]) for start, end in re.findall(r"(\d+) -> (\d+)", graph)}
    svg = {"svg": "http://www.w3.org/2000/svg"}
    groups = ElementTree.parse(PICTURE).findall(".//svg:g[@class]", svg)
    titles = {group: group.findtext("svg:title", "", svg) for group in groups}
    shown = {
        titles[group]: group.findtext(".//svg:text", "", svg) for group in groups if group.attrib["class"] == "node"
    }
    assert sorted(shown.values()) == sorted(names.values()), FIX
    drawn_arrows = {
        tuple(shown[end] for end in titles[group].split("->")) for group in groups if group.attrib["class"] == "edge"
    }
    assert drawn_arrows <= arrows, FIX
    # What the reduction left out must still be reachable.
    assert _closure(drawn_arrows) == _closure(arrows), FIX


def _closure(arrows: set[tuple[str, ...]] | set[tuple[str, str]]) -> set[tuple[str, str]]:
    reach = {(start, end) for start, end in arrows}
    while more := {(a, d) for a, b in reach for c, d in reach if b == c} - reach:
        reach |= more
    return reach


# Words, commands and links.


def code(path: Path) -> str:
    """Everything that is set as code, but for what programs print."""
    set_as_code = (token for token in tokens(path) if token.type in ("fence", "code_inline"))
    return "\n".join(token.content for token in set_as_code if token.info != "text")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?<!requant )\bmake ([a-z][a-z0-9-]*)", code(document)))
    assert named <= targets, f"the Makefile has no rule for {named - targets}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_named_files_exist(document: Path) -> None:
    named = set(re.findall(r"(?<![\w/.-])(?:config|envs|profiles|workflow|tests)/[\w./-]*\w", code(document)))
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_relative_links_resolve(document: Path) -> None:
    links = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(document)]
    for link in (str(link) for link in links if link and not re.match(r"https?://", str(link))):
        name, _, anchor = unquote(link).partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link} names no heading"


def anchors(path: Path) -> set[str]:
    """The ids that GitHub gives to headings."""
    stream = tokens(path)
    texts = [after.content for token, after in pairwise(stream) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("source", sorted((ROOT / "envs").glob("*.in")), ids=shown)
def test_envs_readme_gives_a_reason_for_each_dependency(source: Path) -> None:
    lines = (line.split("#")[0].strip() for line in source.read_text(encoding="utf-8").splitlines())
    required = {re.split(r"[^\w.-]", line)[0] for line in lines if line and not line.startswith("-")}
    sections = re.split(r"^## ", (ROOT / "envs" / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    [section] = [section for section in sections if section.startswith(f"{source.name}\n")]
    assert set(re.findall(r"^\| `([\w.-]+)` \|", section, re.MULTILINE)) == required


def test_the_changelog_knows_the_version() -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "scripts/requant/__init__.py").read_text(encoding="utf-8"))
    assert version
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_profile_keeps_the_default_settings() -> None:
    # A profile named on the command line replaces profiles/default.
    default, *_ = default_and_others = [
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in [ROOT / "profiles/default/profile.yaml", *(ROOT / "profiles").glob("*/profile.yaml")]
    ]
    for profile in default_and_others:
        assert default.items() <= profile.items()


def test_decisions_are_short() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 25, path


if __name__ == "__main__":
    if sys.argv[1:] != ["--fix"]:
        sys.exit(f"usage: {sys.argv[0]} --fix")
    KEYS.write_text(with_tables(KEYS.read_text(encoding="utf-8")), encoding="utf-8")
    for path in CODES:
        path.write_text(with_codes(path), encoding="utf-8")
    for path in VERDICTS:
        path.write_text(with_changes(path), encoding="utf-8")
    ARCHITECTURE.write_text(with_wings(ARCHITECTURE.read_text(encoding="utf-8")), encoding="utf-8")
    PICTURE.write_bytes(drawn())
