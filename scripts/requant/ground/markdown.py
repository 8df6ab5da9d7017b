"""Text of strangers in Markdown: shown as it is, ending neither a table cell nor a code block, doing nothing."""

import re

MARKUP = re.compile(r"[\\`*_\[\]<>|&~$]")

BLOCK_START = re.compile(r"^(\d+(?=[.)](?: |$)))?(?=[-+#=.)])")


def escaped(value: object) -> str:
    """Plain text as one line of Markdown, also in a table cell and at the start of a line.

    >>> print(escaped("a|b *c*"), escaped("1. x"), escaped("# x"))
    a\\|b \\*c\\* 1\\. x \\# x
    """
    return BLOCK_START.sub(lambda start: f"{start[0]}\\", MARKUP.sub(r"\\\g<0>", _on_one_line(value)))


def code(value: object) -> str:
    """A code span, or plain text where a code span could not hold the value in every table.

    >>> print(code("Q4_K_M"), code("a|b"))
    `Q4_K_M` a\\|b
    """
    text = _on_one_line(value)
    return escaped(text) if set(text) & set("`|\\") else f"`{text}`"


def literal(value: object) -> str:
    """A code span whatever the value holds, so that no address or name in it becomes a link; a backtick is changed.

    >>> print(literal("see http://a|b `c`"))
    `see http://a\\|b 'c'`
    """
    return f"`{_on_one_line(value).replace('`', chr(39))}`".replace("|", "\\|")


def _on_one_line(value: object) -> str:
    return " ".join(str(value).split())
