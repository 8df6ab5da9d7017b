"""What a full audit has found so far, on the disk, so that one that was killed goes on where it was.

A line of JSON for each tensor that was compared to its end: the SHA-256 of its bytes and of its weights, and what was
found. A digest speaks only of bytes that were read in the same run: so whoever goes on reads and hashes everything
again, and takes what stands here only for the very same bytes. What is spared is deriving, most of an audit's work.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from requant.audit.recipe.sanity import Unweighted
from requant.formats.ggml import Arithmetic, GGMLType
from requant.ground.errors import StaleError
from requant.quantization.consistency import Consistency
from requant.quantization.derivation import Making, Odd, Tally

WORTH = 60.0
"""Seconds that an audit takes before something is written: a shorter one is made again as fast."""


@dataclass(frozen=True)
class Entry:
    """What was found in a tensor: ``reason`` says why it could not be compared, digests what was."""

    digest: str
    source: str
    tally: Tally
    unweighted: Unweighted
    reason: str | None


@dataclass
class Journal:
    """The entries of one question in ``path``, which is named after it; ``taken`` counts those that were used.

    A line that is not whole, or not of ours, is as if it were not there.
    """

    path: Path
    clock: Callable[[], float] = time.monotonic
    _taken: set[str] = field(default_factory=set)
    _waiting: list[str] = field(default_factory=list)
    _file: TextIO | None = None

    def __post_init__(self) -> None:
        self._begun = self.clock()

    def entries(self, making: Making) -> dict[str, Entry]:
        """What an earlier run has found of tensors made in this way, by name."""
        return {name: entry for name, made, entry in self._read() if made == making}

    def add(self, name: str, making: Making, entry: Entry) -> None:
        """Note a tensor that was compared to its end; a journal that cannot be written ends no audit."""
        self._waiting.append(json.dumps(_line(name, making, entry), default=np.generic.item) + "\n")
        if self.clock() - self._begun < WORTH:
            return
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write("".join(self._waiting))
            self._file.flush()
        except OSError:
            return
        self._waiting.clear()

    def take(self, name: str, entry: Entry, digest: str, source: str) -> None:
        """Use an entry for a tensor with these digests.

        Raises:
            StaleError: when it is of other bytes; it is gone then.
        """
        if (digest, source) != (entry.digest, entry.source):
            self.end()
            raise StaleError(f"{name} is not what it was when this audit was broken off: run it again, from the start")
        self._taken.add(name)

    @property
    def taken(self) -> int:
        """How many tensors were taken, however often."""
        return len(self._taken)

    def end(self) -> None:
        """Nothing is to be gone on with."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            # What could not be written is tried once more here.
            with suppress(OSError):
                self._file.close()

    def _read(self) -> Iterator[tuple[str, Making, Entry]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                yield _parsed(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue


def question_digest(parts: Any) -> str:
    """The name of a journal: a digest of all that decides what is found, the program's own code included."""
    return hashlib.sha256(json.dumps([parts, _code()], sort_keys=True).encode()).hexdigest()


def _code() -> str:
    """A digest of the program."""
    digest, here = hashlib.sha256(), Path(__file__).parents[2]
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _line(name: str, making: Making, entry: Entry) -> dict[str, Any]:
    tally = vars(entry.tally) | {
        "others": [[*_made(each), count] for each, count in entry.tally.others.items()],
        "odd": [astuple(each) for each in entry.tally.odd],
        "consistency": vars(entry.tally.consistency),
    }
    unweighted = [entry.unweighted.found.tolist(), entry.unweighted.without.tolist()]
    return {
        "tensor": name, "making": _made(making), "sha256": entry.digest, "source": entry.source, "tally": tally,
        "unweighted": unweighted, "reason": entry.reason,
    }  # fmt: skip


def _parsed(line: dict[str, Any]) -> tuple[str, Making, Entry]:
    said = line["tally"]
    consistency = Consistency(
        **said["consistency"] | {"places": [tuple(each) for each in said["consistency"]["places"]]}
    )
    others = Counter({_making(*each[:-1]): each[-1] for each in said["others"]})
    tally = Tally(**said | {"others": others, "odd": [Odd(*each) for each in said["odd"]], "consistency": consistency})
    unweighted = Unweighted(*(np.array(each, np.float64) for each in line["unweighted"]))
    entry = Entry(line["sha256"], line["source"], tally, unweighted, line["reason"])
    return line["tensor"], _making(*line["making"]), entry


def _made(making: Making) -> list[Any]:
    return [making.arithmetic.name, making.via.name, making.weighed]


def _making(arithmetic: str, via: str, weighed: bool) -> Making:
    return Making(Arithmetic[arithmetic], GGMLType[via], weighed)
