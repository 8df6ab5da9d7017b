"""Text of strangers in Markdown: shown as it is, ending neither a table cell nor a code block, doing nothing."""

import re

MARKUP = re.compile(r"[\\`*_\[\]<>|&~$]")

LIVE = re.compile(r"@|^\.\/|://|\S\.[A-Za-z]|#\w|(?i:gh-\d|mailto:|xmpp:)|\b[0-9a-f]{40}")
"""What some reader of Markdown makes a link or a mention of: an address, a domain, a person, an issue, a commit."""
WORD = re.compile(r"([(\"']*)(.*?)([)\"';:,.?!]*)")
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


def inert(value: object) -> str:
    """Plain text as ``escaped`` writes it, but with code spans around what a reader would make a link or a mention of.

    >>> print(inert("a|b of hf://x/y, by @me; *c*"))
    a\\|b of `hf://x/y`, by `@me`; \\*c\\*
    """
    parts = re.split(r"([ `|\\]+)", _on_one_line(value))
    return BLOCK_START.sub(lambda start: f"{start[0]}\\", "".join(map(_inert, parts)))


def _inert(part: str) -> str:
    match = WORD.fullmatch(part)
    if match is None or not LIVE.search(match[2]):
        return MARKUP.sub(r"\\\g<0>", part)
    before, name, after = match.groups()
    return f"{before}`{name}`{after}"


def shell(command: str) -> list[str]:
    """Lines of a code block for a shell, whatever the command holds; it is one line."""
    longest = max(map(len, re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}sh", command, fence]


def literal(value: object) -> str:
    """A code span whatever the value holds, so that no address or name in it becomes a link; a backtick is changed.

    >>> print(literal("see http://a|b `c`"))
    `see http://a\\|b 'c'`
    """
    return f"`{_on_one_line(value).replace('`', chr(39))}`".replace("|", "\\|")


def _on_one_line(value: object) -> str:
    return " ".join(str(value).split())
