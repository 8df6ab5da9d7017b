"""A machine without a compiler: what only the fused arithmetic could explain is unchecked, what nothing could is evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from requant.audit.weights.judgement import TensorAudit
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import audit_tensors
from requant.conversion.weights import GGUFWeights
from requant.formats.ggml import Arithmetic
from requant.formats.ggml import GGMLType as T
from requant.quantization.verdict import Verdict
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, numbers, opened, written

COLUMNS, ROWS = 256, 400
KINDS = {"a.weight": T.Q4_1, "b.weight": T.Q8_0, "c.weight": T.Q4_1}
WEIGHTS = {name: (kind, numbers(seed, ROWS, COLUMNS)) for seed, (name, kind) in enumerate(KINDS.items())}
EXACT, MISMATCH, UNCHECKED = Verdict.EXACT, Verdict.MISMATCH, Verdict.UNCHECKED
WHY = "no C compiler (gcc) is on the PATH: install one"
REASON = (
    "differs in some blocks; the fused arithmetic could explain them, and cannot be had here: "
    "no C compiler (gcc) is on the PATH: install one"
)


def strict_only(arithmetic: Arithmetic) -> PureQuantizer:
    assert arithmetic is Arithmetic.STRICT, "what is lacking was opened"
    return PureQuantizer(arithmetic)


def quant(arithmetic: Arithmetic) -> Tensors:
    made = PureQuantizer(arithmetic).quantize
    return {name: (kind, (COLUMNS, ROWS), made(kind, rows).tobytes()) for name, (kind, rows) in WEIGHTS.items()}


def flipped(tensors: Tensors, name: str, rows: int) -> Tensors:
    """Two quants of every block of the first rows, far from what the weights round to."""
    kind, shape, data = tensors[name]
    changed = np.frombuffer(data, np.uint8).reshape(ROWS, -1).copy()
    changed[:rows, 4 :: kind.type_size] ^= 0x88
    return {**tensors, name: (kind, shape, changed.tobytes())}


def verdicts(folder: Path, subject: Tensors) -> list[TensorAudit]:
    plain: Tensors = {name: (T.F32, (COLUMNS, ROWS), rows.tobytes()) for name, (_, rows) in WEIGHTS.items()}
    (file, header), (named, their) = (
        opened(written(folder / "quant.gguf", subject)), opened(written(folder / "weights.gguf", plain)),
    )  # fmt: skip
    with file, named:
        lacking = {Arithmetic.FUSED: WHY}
        material = Material(file, header, GGUFWeights(named, their), {}, strict_only, lacking)
        return list(audit_tensors(material, None, 2, lambda _: None).tensors)


def test_a_strict_file_is_exact(tmp_path: Path) -> None:
    found = verdicts(tmp_path, quant(Arithmetic.STRICT))
    assert [each.verdict for each in found] == [EXACT] * 3


def test_a_fused_file_is_not_accused(tmp_path: Path) -> None:
    """What is searched has a few other blocks; Q8_0 is the same in both."""
    found = verdicts(tmp_path, quant(Arithmetic.FUSED))
    assert 0 < found[0].tally.differing < 0.1 * found[0].tally.blocks
    assert [(each.verdict, each.reason) for each in found] == [(UNCHECKED, REASON), (EXACT, None), (UNCHECKED, REASON)]


@pytest.mark.parametrize(
    ("name", "rows", "expected"),
    [
        ("a.weight", 2, [UNCHECKED, EXACT, EXACT]),
        ("a.weight", ROWS, [MISMATCH, EXACT, EXACT]),
        ("b.weight", 1, [EXACT, MISMATCH, EXACT]),
    ],
)
def test_a_changed_file_never_passes(tmp_path: Path, name: str, rows: int, expected: list[Verdict]) -> None:
    """More than any rounding changes, or where none does, is evidence on every machine."""
    found = verdicts(tmp_path, flipped(quant(Arithmetic.STRICT), name, rows))
    assert [each.verdict for each in found] == expected
