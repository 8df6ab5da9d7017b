"""What a quant has as its weights have it, byte for byte: MXFP4, and whole numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.weights.judgement import REPACKED
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.audit.weights.tensor import TensorAudit
from requant.conversion.weights import GGUFWeights
from requant.documents.entries import tensors
from requant.formats.ggml import Arithmetic, row_bytes
from requant.formats.ggml import GGMLType as T
from requant.formats.packed import mxfp4_values
from requant.pipeline.describe import describe, tensor_entries
from requant.quantization.verdict import Verdict
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, opened, written

SHAPE = (64, 40, 3)
KINDS = (T.MXFP4, T.NVFP4, T.I32, T.F64)


def stored(kind: T, seed: int = 0) -> bytes:
    data = np.random.default_rng(seed).integers(0, 256, 120 * row_bytes(kind, 64), np.uint8)
    if kind is T.MXFP4:
        data[::17] = 118 + data[::17] % 8
        data[1::17] |= 0x80  # at least one number that is not 0
    return data.tobytes()


def swept(folder: Path, weights: Tensors, subject: Tensors, count: int | None) -> tuple[TensorAudit, Sweep]:
    (quant, header), (named, their) = (
        opened(written(folder / f"{name}.gguf", found)) for name, found in (("quant", subject), ("weights", weights))
    )
    with quant, named:
        material = Material(quant, header, GGUFWeights(named, their), {}, PureQuantizer)
        found = audit_tensors(material, cover(header, count, 7).selected, 2, lambda _: None)
    [audit] = found.tensors
    return audit, found


@pytest.mark.parametrize("count", [None, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_exact_and_any_other_byte_is_not(tmp_path: Path, kind: T, count: int | None) -> None:
    data = stored(kind)
    audit, found = swept(tmp_path, {"x": (kind, SHAPE, data)}, {"x": (kind, SHAPE, data)}, count)
    assert (audit.verdict, audit.reason, audit.tally.differing) == (Verdict.EXACT, None, 0)
    if count is None:
        assert found.source == tuple(tensors(tensor_entries(describe(tmp_path / "weights.gguf"))))
        assert found.source_root
    changed = bytearray(data)
    changed[1] ^= 0x40
    audit, _ = swept(tmp_path, {"x": (kind, SHAPE, data)}, {"x": (kind, SHAPE, bytes(changed))}, None)
    assert (audit.verdict, audit.tally.unexplained) == (Verdict.MISMATCH, 1)
    other = stored(kind, 1)
    audit, _ = swept(tmp_path, {"x": (kind, SHAPE, data)}, {"x": (kind, SHAPE, other)}, count)
    assert audit.verdict is Verdict.MISMATCH


def test_the_same_numbers_under_other_scales_accuse_nobody(tmp_path: Path) -> None:
    """Codes for 1 and 2 under half the scale are those for 2 and 4."""
    blocks = np.frombuffer(stored(T.MXFP4), np.uint8).reshape(-1, 17).copy()
    blocks[:3, 1:] = 0x24
    again = blocks.copy()
    again[:3, 0] -= 1
    again[:3, 1:] = 0x46
    assert np.array_equal(mxfp4_values(again), mxfp4_values(blocks))
    weights: Tensors = {"x": (T.MXFP4, SHAPE, blocks.tobytes())}
    audit, _ = swept(tmp_path, weights, {"x": (T.MXFP4, SHAPE, again.tobytes())}, None)
    assert (audit.verdict, audit.reason, audit.tally.differing) == (Verdict.UNCHECKED, REPACKED, 3)
    again[5, 3] ^= 0x40
    audit, _ = swept(tmp_path, weights, {"x": (T.MXFP4, SHAPE, again.tobytes())}, None)
    assert (audit.verdict, audit.reason, audit.tally.unexplained) == (Verdict.MISMATCH, None, 1)


def test_what_is_quantized_again_is_derived_from_its_numbers(tmp_path: Path) -> None:
    data = stored(T.MXFP4)
    numbers = mxfp4_values(np.frombuffer(data, np.uint8).reshape(120, -1))
    made = PureQuantizer(Arithmetic.STRICT).quantize(T.Q4_1, numbers).tobytes()
    audit, _ = swept(tmp_path, {"x": (T.MXFP4, SHAPE, data)}, {"x": (T.Q4_1, SHAPE, made)}, None)
    assert audit.verdict is Verdict.EXACT
    audit, _ = swept(tmp_path, {"x": (T.MXFP4, SHAPE, data)}, {"x": (T.Q4_1, SHAPE, made[40:] + made[:40])}, None)
    assert audit.verdict is Verdict.MISMATCH


def test_blocks_beside_quantized_ones_are_no_weights(tmp_path: Path) -> None:
    """Who names a quant as weights is told so, and nobody is accused of being made of better ones."""
    shape, data = (64, 40), bytes(40 * row_bytes(T.Q8_0, 64))
    weights: Tensors = {"x": (T.MXFP4, SHAPE, stored(T.MXFP4)), "y": (T.Q8_0, shape, data)}
    subject: Tensors = {"x": (T.MXFP4, SHAPE, stored(T.MXFP4, 1))}
    audit, _ = swept(tmp_path, weights, subject, None)
    said = "the weights hold it as MXFP4: name the unquantized weights"
    assert (audit.verdict, audit.reason) == (Verdict.UNCHECKED, said)


def test_whole_numbers_are_not_derived_from(tmp_path: Path) -> None:
    weights: Tensors = {"x": (T.I32, SHAPE, stored(T.I32))}
    audit, _ = swept(tmp_path, weights, {"x": (T.F32, SHAPE, stored(T.I32))}, None)
    assert (audit.verdict, audit.reason) == (
        Verdict.UNCHECKED,
        "the weights hold it as I32, and only a copy of that is checked",
    )
