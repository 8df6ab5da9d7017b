"""What a conversion would write into a GGUF: the values that are known or may be absent, and what is unknown."""

from dataclasses import dataclass, field

from requant.formats.gguf import Field


@dataclass
class ExpectedMetadata:
    """What a conversion of the named weights would say.

    ``values`` are the keys whose value is known. Those in ``optional`` may be absent, because llama.cpp then assumes
    the same or because some of its versions do not write them; those in ``implied`` need not be written, but may be
    there with the value that llama.cpp assumes. ``unknown`` maps other keys, or the beginnings of keys up to a dot, to
    the reason why nothing is known about them; ``unsure`` lists such items of known arrays. ``looking`` are ids of
    tokens that are special by their looks alone, which older converters did not go by. ``ends`` are ids of tokens at
    which the checkpoint says that texts end; ``more_ends`` says that there may be others. ``overlooked`` are keys of
    templates that stand where not every converter looked; ``unplaced`` says that any of them may stand there.
    ``by_version`` says that any key may be absent because of another version of the converter.
    """

    values: dict[str, Field] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    implied: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)
    unsure: dict[str, set[int]] = field(default_factory=dict)
    looking: set[int] = field(default_factory=set)
    ends: set[int] = field(default_factory=set)
    more_ends: bool = False
    overlooked: set[str] = field(default_factory=set)
    unplaced: bool = False
    by_version: bool = False

    def update(self, other: "ExpectedMetadata") -> None:
        """Take over everything that ``other`` knows."""
        self.values |= other.values
        self.optional |= other.optional
        self.implied |= other.implied
        self.unknown |= other.unknown
        self.unsure |= other.unsure
        self.looking |= other.looking
        self.ends |= other.ends
        self.more_ends |= other.more_ends
        self.overlooked |= other.overlooked
        self.unplaced |= other.unplaced
        self.by_version |= other.by_version

    def why_unknown(self, key: str) -> str | None:
        """The reason why nothing is known about ``key``, if so."""
        return next((why for start, why in self.unknown.items() if belongs(key, start)), None)


def belongs(key: str, *starts: str) -> bool:
    """Whether ``key`` is one of ``starts``, or begins with one that ends with a dot."""
    return any(key == start or (start.endswith(".") and key.startswith(start)) for start in starts)
