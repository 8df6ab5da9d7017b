"""The last line of a comparison: that A and B are the same, or in what they differ."""

from collections.abc import Iterable


def summed_up(same: bool, equal: str, differing: Iterable[tuple[int, str]]) -> str:
    """One sentence that cannot be misread.

    Args:
        same: whether A and B are taken for equal.
        equal: what is equal then.
        differing: what may differ, each with how often it does; those that do are said.
    """
    return f"same: {equal}" if same else f"they differ in {' and in '.join(what for count, what in differing if count)}"
