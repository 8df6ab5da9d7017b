"""What an audit does not say, in sentences that go with every outcome: docs/verdicts.md."""

from enum import StrEnum
from typing import Self


class Limit(StrEnum):
    """What a reader could take an outcome for, and what is so; ``sentence`` says it."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        """A word with its sentence."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    SAMPLE = "sample", "Rows that were not read may be anything: a single altered row is most likely missed."
    UNCHECKED = "unchecked", "What is unchecked is neither confirmed nor accused."
    WHY = "why", "It is not known why something is not as it should be: a mistake and an intent look alike."
    SUBJECT = "subject", "The subject named its own weights: whoever forges a quant can do that, too."
    NEAR = "near", "In blocks that differ as rounding would, a few bits were free to choose."
    CONSISTENT = "consistent", "The scales of what is consistent were not derived: they were free to choose."
    GOOD = (
        "good",
        "Nothing is said of whether what was named, weights or importance matrix, is good, safe or the vendor's.",
    )
