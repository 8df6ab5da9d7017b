"""Which revision of the named weights a changed key comes from: a publisher quantizes what was there on that day.

Asked only where a key differs and the weights are on a hub that tells its history; only small files are read.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.audit.named_weights import NamedWeights
from requant.conversion.expected import ExpectedMetadata
from requant.conversion.files import DESCRIPTION
from requant.conversion.metadata import expected_metadata, is_text, read_text
from requant.formats.gguf import Header
from requant.ground.errors import FormatError, SourceError, UnsupportedError
from requant.ground.text import listed
from requant.places.place import Place
from requant.places.repository import Commit

MOST = 32
"""Revisions that are looked at: those nearest to the named one, each for one request, and files that are new in it."""


@dataclass(frozen=True)
class Origins:
    """The nearest revision that gives a key, by key; ``looked`` is how many others than the named one were looked at.

    ``trouble`` is why the rest could not be.
    """

    found: Mapping[str, Commit] = field(default_factory=dict)
    looked: int = 0
    trouble: str | None = None

    def sentence(self, keys: Collection[str]) -> str:
        """Where ``keys`` come from, in words that follow a sentence about them; nothing where nobody was asked."""
        by_commit: dict[Commit, list[str]] = {}
        for key in keys:
            if key in self.found:
                by_commit.setdefault(self.found[key], []).append(key)
        parts = [
            f"{listed(names)} {'equals' if len(names) == 1 else 'equal'} revision {commit.id[:12]} ({commit.day})"
            for commit, names in by_commit.items()
        ]
        if not parts and self.looked:
            others = "the other revision" if self.looked == 1 else f"any of {self.looked:,} other revisions"
            parts.append(f"nor what {others} gives")
        if self.trouble:
            parts.append(f"other revisions could not be looked at ({self.trouble})")
        return "".join(f"; {part}" for part in parts)


def find_origins(keys: Collection[str], subject: Header, weights: NamedWeights) -> Origins:
    """Look for ``keys`` of ``subject``, which are not what the named revision gives, in earlier and later ones."""
    found: dict[str, Commit] = {}
    looked = 0
    if not weights.texts:
        return Origins()
    try:
        for commit, expected in _others(weights):
            looked += 1
            if expected is not None:
                for key in _given(keys, subject, expected):
                    found.setdefault(key, commit)
            if len(found) == len(keys):
                break
    except SourceError as error:
        return Origins(found, looked, str(error))
    return Origins(found, looked)


def _given(keys: Collection[str], subject: Header, expected: ExpectedMetadata) -> list[str]:
    """Those of ``keys`` that are as expected."""
    grades = {finding.key: finding.grade for finding in compare_metadata(subject, expected).findings}
    known = [key for key in keys if expected.why_unknown(key) is None]
    return [key for key in known if grades.get(key, Grade.HARMLESS) is Grade.HARMLESS]


def _others(weights: NamedWeights) -> Iterator[tuple[Commit, ExpectedMetadata | None]]:
    """Other revisions, the nearest first, with what they would give; nothing where nothing is new or known."""
    history = weights.place.history()
    ids = [commit.id for commit in history]
    here = ids.index(weights.place.revision) if weights.place.revision in ids else 0
    near = sorted(range(len(history)), key=lambda index: (abs(index - here), index))
    seen = {_signature(weights.place)}
    for commit in [history[index] for index in near if ids[index] != weights.place.revision][:MOST]:
        with weights.place.at(commit.id) as place:
            signature = _signature(place)
            yield commit, None if signature in seen else _expected(place, weights)
            seen.add(signature)


def _signature(place: Place) -> tuple[tuple[str, object], ...]:
    """What tells whether the small files of two revisions are the same."""
    return tuple((name, place.expected(name)) for name in place.names if is_text(name) and name != DESCRIPTION)


def _expected(place: Place, weights: NamedWeights) -> ExpectedMetadata | None:
    """What a revision would give, if its files can be read; only those that differ from the named one's are."""
    try:
        return expected_metadata({name: _text(place, name, weights) for name in filter(is_text, place.names)})
    except (UnsupportedError, FormatError):
        return None


def _text(place: Place, name: str, weights: NamedWeights) -> bytes:
    same = place.expected(name) is not None and place.expected(name) == weights.place.expected(name)
    known = name in weights.texts and (same or name == DESCRIPTION)
    return weights.texts[name] if known else read_text(place, name)
