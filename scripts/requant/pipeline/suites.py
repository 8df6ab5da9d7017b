"""Suites of questions by the names that recipes write: where each comes from, and who asks it.

A suite is a file, which requant asks (``docs/suites.md``), or one of the names here.
"""

MMLU, GPQA_DIAMOND = "mmlu", "gpqa_diamond"
BERKELEY = ("bfcl_simple", "bfcl_multiple", "bfcl_irrelevance")
"""Parts of one package, which become files; requant asks them."""
KNOWLEDGE = (MMLU, GPQA_DIAMOND)
"""Data sets on the Hub, each by itself, which ``HARNESS`` asks and grades."""
HARNESS = "EvalScope"
CARD_ROWS = ("tool_calls", *KNOWLEDGE, "code")
"""Suites of which the card tells whether they were asked; tool calls and code are files in ``suites/``."""


def suite_pin(suite: str) -> str | None:
    """What the pin table calls the place that a suite comes from, such as ``bfcl`` or ``mmlu``; None for a file."""
    if suite in BERKELEY:
        return "bfcl"
    return suite if suite in KNOWLEDGE else None
