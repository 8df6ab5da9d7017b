"""The journal of a full audit: what a run that was broken off found, taken for the very same bytes and no others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from requant.audit.recipe.sanity import Unweighted
from requant.audit.weights.journal import WORTH, Entry, Journal, question_digest
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.conversion.weights import GGUFWeights, rounded
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.ground.errors import StaleError
from requant.quantization.consistency import Consistency
from requant.quantization.derivation import Making, Odd, Tally
from requant.quantization.verdict import Verdict
from support.clocks import SetClock
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, numbers, opened, written

ROWS, COLUMNS, COUNT = 24, 256, 6
SHAPE = (COLUMNS, ROWS)
NAMES = [f"blk.{layer}.weight" for layer in range(COUNT)]
WEIGHTS = {name: numbers(layer, ROWS, COLUMNS) for layer, name in enumerate(NAMES)}
NORM = np.linspace(0.5, 2, COLUMNS, dtype=np.float32)
IMPORTANCES = {name: np.linspace(1, 2, COLUMNS, dtype=np.float32) for name in NAMES}
STRICT = Making(Arithmetic.STRICT, T.F32)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requant.audit.weights.journal.WORTH", 0.0)


def pair(folder: Path, via: T = T.F32) -> tuple[Path, Path]:
    """A quant of which one block of one tensor is another's, and its weights."""
    norm = {"norm.weight": (T.F32, (COLUMNS,), NORM.tobytes())}
    rows = {name: rounded(values, via) for name, values in WEIGHTS.items()}
    kinds = dict.fromkeys(NAMES, T.Q4_1) | {NAMES[1]: T.Q8_0}
    quantizer = PureQuantizer(Arithmetic.STRICT)
    quant: Tensors = {name: (kinds[name], SHAPE, quantizer.quantize(kinds[name], each).tobytes()) for name, each in rows.items()}  # fmt: skip
    changed = bytearray(quant[NAMES[1]][2])
    changed[37] ^= 0x55
    quant[NAMES[1]] = T.Q8_0, SHAPE, bytes(changed)
    weights: Tensors = {name: (T.F32, SHAPE, values.tobytes()) for name, values in WEIGHTS.items()}
    return written(folder / "quant.gguf", quant | norm), written(folder / "weights.gguf", weights | norm)


@dataclass
class Counting:
    """Quantizers that count the rows which they derive."""

    rows: Counter[Arithmetic] = field(default_factory=Counter)

    def __call__(self, arithmetic: Arithmetic) -> PureQuantizer:
        counted = self.rows

        class Quantizer(PureQuantizer):
            def quantize(self, kind: T, weights: Floats, importance: Floats | None = None) -> Bytes:
                counted[self.arithmetic] += len(weights)
                return super().quantize(kind, weights, importance)

        return Quantizer(arithmetic)


class KilledError(Exception):
    """The audit ends here."""


def swept(
    quant: Path, weights: Path, journal: Journal | None, most: int | None = None,
    importances: Mapping[str, Floats] = IMPORTANCES,
) -> tuple[Sweep, int]:  # fmt: skip
    """A full audit, broken off after ``most`` weights; and how many rows it has derived."""
    quantizers, compared = Counting(), 0

    def advance(count: int) -> None:
        nonlocal compared
        compared += count
        if most is not None and compared > most:
            raise KilledError

    (file, header), (named, their) = opened(quant), opened(weights)
    with file, named:
        material = Material(file, header, GGUFWeights(named, their), importances, quantizers)
        return audit_tensors(material, None, 1, advance, journal=journal), quantizers.rows.total()


def outcome(sweep: Sweep) -> object:
    """All that was found, in a form that can be compared."""
    tensors = [
        (each.tensor.name, each.verdict, each.reason, each.tally, each.unweighted.found.tolist(), each.unweighted.without.tolist())
        for each in sweep.tensors
    ]  # fmt: skip
    return (
        tensors, sweep.arithmetic, sweep.via, sweep.blocks, sweep.differing, sweep.weighed, sweep.padding, sweep.sha256s,
        sweep.digests, sweep.source, sweep.source_root,
    )  # fmt: skip


def test_what_was_derived_is_not_derived_again(tmp_path: Path) -> None:
    """And the outcome is that of a run that was never broken off, which hashed every byte by itself."""
    quant, weights = pair(tmp_path)
    whole, all_rows = swept(quant, weights, None)
    with pytest.raises(KilledError):
        swept(quant, weights, Journal(tmp_path / "a" / "x.jsonl"), 4 * ROWS * COLUMNS)
    journal = Journal(tmp_path / "a" / "x.jsonl")
    again, rows = swept(quant, weights, journal)
    assert outcome(again) == outcome(whole)
    assert again.derived_before == journal.taken == 4 and whole.derived_before == 0
    assert rows < all_rows - 3 * ROWS
    assert {each.verdict for each in again.tensors} == {Verdict.EXACT, Verdict.MISMATCH}
    third, fewest = swept(quant, weights, Journal(journal.path))
    assert outcome(third) == outcome(whole) and third.derived_before == COUNT + 1 and fewest < rows
    journal.end()
    assert not journal.path.exists()


def test_a_file_that_is_compared_twice(tmp_path: Path) -> None:
    """What fits one way of making it says nothing of another."""
    small = {name: values * np.float32(2**-12) if name == NAMES[-1] else values for name, values in WEIGHTS.items()}
    quantizer = PureQuantizer(Arithmetic.STRICT)
    quant = written(tmp_path / "quant.gguf", {
        name: (T.Q4_1, SHAPE, quantizer.quantize(T.Q4_1, rounded(values, T.F16)).tobytes()) for name, values in small.items()
    })  # fmt: skip
    weights = written(tmp_path / "weights.gguf", {name: (T.F32, SHAPE, each.tobytes()) for name, each in small.items()})
    whole, _ = swept(quant, weights, None, importances={})
    path = tmp_path / "x.jsonl"
    first, _ = swept(quant, weights, Journal(path), importances={})
    again, _ = swept(quant, weights, Journal(path), importances={})
    assert outcome(first) == outcome(again) == outcome(whole)
    assert again.derived_before >= COUNT


@pytest.mark.parametrize("side", ["quant", "weights"])
def test_a_tensor_that_changed_meanwhile_is_never_taken(tmp_path: Path, side: str) -> None:
    quant, weights = pair(tmp_path)
    path = tmp_path / "x.jsonl"
    with pytest.raises(KilledError):
        swept(quant, weights, Journal(path), 4 * ROWS * COLUMNS)
    changed = quant if side == "quant" else weights
    with changed.open("r+b") as file:
        file.seek(opened(changed)[1].tensors[0].offset + 2002)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x40]))
    with pytest.raises(
        StaleError, match=r"^blk\.0\.weight is not what it was when this audit was broken off: run it again"
    ):
        swept(quant, weights, Journal(path))
    assert not path.exists()
    found, _ = swept(quant, weights, Journal(path))
    assert found.tensors[0].verdict is Verdict.MISMATCH


ENTRY = Entry(
    "0" * 64,
    "1" * 64,
    Tally(7, 8, 5, 2, 1, 2, 0.1, 1 / 3, float("inf"), Counter({STRICT: 2, Making(Arithmetic.FUSED, T.BF16, False): 1}),
          [Odd(1, 32, 5, 144, 1.0000000000000002)], Consistency(9, 1, 2, 3, 4, 5, 0.1, float("nan"), 1e-300, 2.5, [(3, 4)])),
    Unweighted(np.array([0.1, np.inf]), np.array([1 / 3, 5e-324])),
    "the weights hold NaN",
)  # fmt: skip


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    journal = Journal(path)
    journal.add("blk.0.weight", STRICT, ENTRY)
    journal.add("世界", Making(Arithmetic.FUSED, T.F16, False), Entry("2" * 64, "3" * 64, Tally(), Unweighted(), None))
    found = Journal(path).entries(STRICT)
    assert repr(found) == repr({"blk.0.weight": ENTRY})
    assert Journal(path).entries(Making(Arithmetic.FUSED, T.F16, False)).keys() == {"世界"}
    assert not Journal(path).entries(Making(Arithmetic.STRICT, T.F16))


def test_numbers_of_numpy_are_written(tmp_path: Path) -> None:
    tally = Tally(rows=np.int64(3), error=np.float64(0.5))  # type: ignore[arg-type]
    Journal(tmp_path / "x").add("a", STRICT, Entry("", "", tally, Unweighted(), None))
    assert Journal(tmp_path / "x").entries(STRICT)["a"].tally == Tally(rows=3, error=0.5)


def test_lines_that_are_not_whole_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    Journal(path).add("a", STRICT, ENTRY)
    line = path.read_text()
    without = [{key: value for key, value in json.loads(line).items() if key != left} for left in json.loads(line)]
    odd = [line[:-30], "", "[]", "1", "null", '{"tally": 3}', *map(json.dumps, without)]
    path.write_text("\n".join([*odd, line.replace('"a"', '"b"')]))
    assert Journal(path).entries(STRICT).keys() == {"b"}
    path.write_bytes(b"\xff\xfe")
    assert not Journal(path).entries(STRICT)


def test_a_short_audit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has taken a minute, everything is written."""
    monkeypatch.setattr("requant.audit.weights.journal.WORTH", WORTH)
    time = SetClock()
    journal = Journal(tmp_path / "audits" / "x.jsonl", time.now)
    journal.add("a", STRICT, ENTRY)
    time.time += 59
    journal.add("b", STRICT, ENTRY)
    assert not journal.path.parent.exists()
    time.time += 1
    journal.add("c", STRICT, ENTRY)
    assert list(Journal(journal.path).entries(STRICT)) == ["a", "b", "c"]


def test_a_cache_that_cannot_be_written_ends_no_audit(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "x.jsonl")
    journal.add("a", STRICT, ENTRY)
    assert not journal.entries(STRICT)
    journal.end()


def test_a_full_disk_ends_no_audit(tmp_path: Path) -> None:
    """What is still to be written is not written at the end either, when hours of work are handed out."""
    (tmp_path / "journal").symlink_to("/dev/full")
    journal = Journal(tmp_path / "journal")
    journal.add("a", STRICT, ENTRY)
    journal.end()
    assert not (tmp_path / "journal").is_symlink()


def test_a_question_is_all_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    one = question_digest(["a", 1, None])
    assert one == question_digest(("a", 1, None)) != question_digest(["a", 1, 0])
    monkeypatch.setattr("requant.audit.weights.journal._code", lambda: "another version")
    assert question_digest(["a", 1, None]) != one
