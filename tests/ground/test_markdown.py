"""requant.ground.markdown: a Markdown reader shows the text of strangers as it is, wherever it stands."""

from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from requant.ground.markdown import code, escaped, inert, shell

TEXTS = [
    "plain", "a | b | c", "`tick` ``two`` `", "*b* _i_ **s** ~~d~~ $x$", "<script>alert(1)</script><!--", "&lt;b&gt; &amp;",
    "[x](javascript:y)", "![x](y)", "[x]: /y", "https://example.org/a_b_c", "# heading", "---", "1. item", "1) item", "12.",
    "- item", "+5", "= x", "> quote", "```fence", "\\| \\", "\\", "ends with \\", "{{ 7 }}", "|", "``", "a`", "!", "~~~",
    "blk.0.attn_q.weight", "chat_template: {% raw %}", "by @me, of (www.x.org/a_b) | a@b.c`d", "\\@me", "#1 or o/n#2.",
    "`@a`b` @c", "'@a'", "@", "@|@", "a.b.", "..x",
]  # fmt: skip
PLACES = {
    "a paragraph": "{}", "a list": "- {}", "bold": "**x{}x**", "a cell": "| a | b |\n|---|---|\n| {} | end |",
    "the last cell": "| a | b |\n|---|---|\n| start | {} |",
}  # fmt: skip


def shown(markdown: str) -> list[str]:
    """What stands in each paragraph, cell and item, without its markup; other things are named by their type."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        if token.type == "inline":
            inside = {"text", "code_inline", "text_special", "strong_open", "strong_close"}
            found.append(
                "".join(child.content if child.type in inside else f"<{child.type}>" for child in token.children or [])
            )
    return found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("write", [escaped, code, inert])
@pytest.mark.parametrize("text", TEXTS)
def test_a_reader_sees_the_text(text: str, write: Callable[[object], str], place: str) -> None:
    plain, found = shown(PLACES[place].format("word")), shown(PLACES[place].format(write(text)))
    assert found == [part.replace("word", text) for part in plain]


@pytest.mark.parametrize("write", [escaped, code, inert])
def test_lines_are_joined(write: Callable[[object], str]) -> None:
    assert write("one\n\n| two\r\n\u2028three ") == write("one | two three")


@pytest.mark.parametrize("command", ["requant audit x", "a `b` ```c``` ~~~", "a ````", "--x '<b>'"])
def test_a_command_stands_in_a_block_of_its_own(command: str) -> None:
    [token] = MarkdownIt("commonmark").parse("\n".join(shell(command)))
    assert (token.type, token.info, token.content) == ("fence", "sh", f"{command}\n")
