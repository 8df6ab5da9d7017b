"""Laws of the corpus: the WikiText rule, one order of files, and no name for a text that was not expected."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.ground.digests import Known, digest_bytes
from requant.ground.errors import FormatError, PinnedBytesError, RecipeError
from requant.pipeline.fetch_corpus import raw_text, tree_files, write_raw_text, write_tree_text
from support.files import known_bytes, names

BLANK = " \n"
# Lines of a raw text as WikiText has them. Whatever Python also takes for a line end stays inside its line.
LINES = st.one_of(
    st.just(BLANK),
    st.sampled_from([" = Robert Boulter = \n", " = = Career = = \n", " naïve café 你好 🦙 \u2028 \n"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")).map(lambda text: f" {text}.\n"),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    files = {
        "README.md": "# Readme\n",
        "docs/b.md": "b without newline",
        "docs/a.md": "a\n\n\n",
        "docs/Z.md": "naïve 你好\r\n",
        "docs/deep/c.md": "\n  c\n",
        "docs/deep-er.md": "d\n",
        "docs/skip.txt": "no\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(text.encode())
    return tree


@given(st.lists(LINES))
def test_empty_rows_become_the_blank_lines_they_were(lines: list[str]) -> None:
    rows = ["" if line == BLANK else line for line in lines]
    assert b"".join(raw_text(rows)) == "".join(lines).encode()


@given(st.lists(st.text()))
def test_the_rule_is_this_for_any_rows(rows: list[str]) -> None:
    assert b"".join(raw_text(rows)) == "".join(row or " \n" for row in rows).encode()


def test_rows_are_taken_one_by_one() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "row\n"

    pieces = raw_text(endless())
    assert [next(pieces), next(pieces)] == [b"row\n", b"row\n"]


def test_an_expected_text_takes_its_name_and_is_digested(tmp_path: Path) -> None:
    rows = ["", " = Title = \n", "", " Text , with @-@ signs . \n"]
    data = b" \n = Title = \n \n Text , with @-@ signs . \n"
    out = tmp_path / "deeper" / "wiki.raw"
    assert write_raw_text(iter(rows), out, known_bytes(data)) == digest_bytes(data)
    assert out.read_bytes() == data
    assert names(out.parent) == ["wiki.raw"]


@pytest.mark.parametrize(
    "expected",
    [
        Known(sha256="0" * 64),
        Known(size=9),
        Known(size=0),
        Known(git_blob="0" * 40),
        Known(5, "0" * 64, "0" * 40),
    ],
)
@pytest.mark.parametrize("before", [None, b"an older text"])
def test_another_text_leaves_nothing_behind(expected: Known, before: bytes | None, tmp_path: Path) -> None:
    out = tmp_path / "wiki.raw"
    if before is not None:
        out.write_bytes(before)
    with pytest.raises(PinnedBytesError, match=r"^wiki\.raw has ") as caught:
        write_raw_text(["row\n", ""], out, expected)
    assert "\n" not in str(caught.value)
    assert (out.read_bytes() if out.exists() else None) == before
    assert names(tmp_path) == (["wiki.raw"] if before else [])


def test_a_failing_source_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[str]:
        yield "row\n"
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="network"):
        write_raw_text(broken(), tmp_path / "wiki.raw", Known())
    assert names(tmp_path) == []


def test_files_come_once_each_in_the_order_of_their_codepoints(tree: Path) -> None:
    expected = ["README.md", "docs/Z.md", "docs/a.md", "docs/b.md", "docs/deep-er.md", "docs/deep/c.md"]
    assert tree_files(tree, ["docs/**/*.md", "*.md", "docs/a.md"]) == expected
    assert tree_files(tree, ["docs/a.md", "*.md", "docs/**/*.md"]) == expected
    assert tree_files(tree, ["docs/*"]) == [*expected[1:5], "docs/skip.txt"]


def test_one_newline_ends_each_file_and_a_blank_line_parts_them(tree: Path, tmp_path: Path) -> None:
    data = "naïve 你好\n\na\n\nb without newline\n\nd\n\n\n  c\n".encode()
    out = tmp_path / "train.txt"
    assert write_tree_text(tree, ["docs/**/*.md"], out, known_bytes(data)) == digest_bytes(data)
    assert out.read_bytes() == data


def test_a_changed_tree_leaves_nothing_behind(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(PinnedBytesError, match="source tree"):
        write_tree_text(tree, ["*.md"], tmp_path / "out" / "train.txt", known_bytes(b"# Readme!\n"))
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    "pattern", ["nothing/*.md", "docs", "/etc/*", "../*", "docs/../../x", "docs/**", "", ".", "**", "docs/.."]
)
def test_a_pattern_that_names_no_files_inside_the_tree_is_refused(pattern: str, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("outside\n")
    with pytest.raises(RecipeError, match="the pattern "):
        write_tree_text(tree, ["*.md", pattern], tmp_path / "out.txt", Known())
    assert not (tmp_path / "out.txt").exists()


def test_no_pattern_at_all_is_refused(tree: Path) -> None:
    with pytest.raises(RecipeError, match="no patterns"):
        tree_files(tree, [])


def test_symbolic_links_are_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text("outside\n")
    (tree / "docs/link.md").symlink_to(tmp_path / "secret.md")
    (tree / "linked").symlink_to(tree / "docs")
    for pattern, name in (("docs/*.md", "docs/link.md"), ("linked/a.md", "linked"), ("*/a.md", "linked")):
        with pytest.raises(FormatError, match=f"{name} .*symbolic link"):
            tree_files(tree, [pattern])


def test_the_tree_itself_may_be_reached_through_a_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tree)
    assert tree_files(tmp_path / "alias", ["*.md"]) == ["README.md"]


def test_a_file_that_is_not_utf8_is_named(tree: Path, tmp_path: Path) -> None:
    (tree / "docs/latin.md").write_bytes(b"caf\xe9\n")
    with pytest.raises(FormatError, match=r"docs/latin\.md .*UTF-8"):
        write_tree_text(tree, ["docs/*.md"], tmp_path / "out" / "train.txt", Known())
    assert names(tmp_path / "out") == []
