"""Queries, keys and values as one tensor, as ``--fuse-qkv`` of upstream's converter stores them, and gate with up."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.forms.spoken import spoken
from requant.audit.weights.fused import FusedWeights, as_fused_by
from requant.audit.weights.hashed_weights import HashedWeights
from requant.audit.weights.journal import Journal
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.audit.weights.tied import of_gguf
from requant.conversion.weights import GGUFWeights
from requant.formats.ggml import Arithmetic, Floats
from requant.formats.ggml import GGMLType as T
from requant.formats.weights_root import TensorEntry, weights_root
from requant.quantization.verdict import Verdict
from support.pure_quantizer import PureQuantizer
from support.quants import Tensors, numbers, opened, written

COLUMNS, EXPERTS = 256, 3
Q, K, V = (numbers(seed, rows, COLUMNS) for seed, rows in ((1, 64), (2, 24), (3, 24)))
GATE, UP = (numbers(seed, EXPERTS, 20, COLUMNS) for seed in (4, 5))
BIASES = [numbers(10 + at, len(rows)) for at, rows in enumerate((Q, K, V))]
QKV, EXPS = "blk.0.attn_qkv.weight", "blk.0.ffn_gate_up_exps.weight"
QKV_BIAS = "blk.0.attn_qkv.bias"
PARTS = [f"blk.0.attn_{each}" for each in "qkv"]


def shaped(values: Floats, kind: T = T.F32) -> tuple[T, tuple[int, ...], bytes]:
    stored = values if kind is T.F32 else PureQuantizer(Arithmetic.STRICT).quantize(kind, values.reshape(-1, COLUMNS))
    return kind, tuple(reversed(values.shape)), stored.tobytes()


def plain(biases: int = 3) -> Tensors:
    found: Tensors = {f"{name}.weight": shaped(rows) for name, rows in zip(PARTS, (Q, K, V), strict=True)}
    found |= {f"{name}.bias": shaped(each) for name, each in [*zip(PARTS, BIASES, strict=True)][:biases]}
    experts = {f"blk.0.ffn_{name}_exps.weight": shaped(rows) for name, rows in (("gate", GATE), ("up", UP))}
    return {**found, **experts, "output_norm.weight": shaped(numbers(7, COLUMNS))}


def fused(qkv: tuple[Floats, ...] = (Q, K, V), experts: tuple[Floats, ...] = (GATE, UP), kind: T = T.Q8_0) -> Tensors:
    return {
        QKV: shaped(np.concatenate(qkv), kind),
        QKV_BIAS: shaped(np.concatenate(BIASES)),
        EXPS: shaped(np.concatenate(experts, 1), kind),
        "output_norm.weight": shaped(numbers(7, COLUMNS)),
    }


def swept(
    folder: Path, weights: Tensors, subject: Tensors, count: int | None = None, journal: Journal | None = None
) -> tuple[Sweep, dict[str, Verdict]]:
    (file, header), (named, their) = (
        opened(written(folder / "quant.gguf", subject)),
        opened(written(folder / "weights.gguf", weights)),
    )
    with file, named:
        found = as_fused_by([tensor.name for tensor in header.tensors], GGUFWeights(named, their))
        material = Material(file, header, found, {}, PureQuantizer)
        selected = cover(header, count, 7).selected
        sweep = audit_tensors(material, selected, 2, lambda _: None, journal=journal)
    return sweep, {audit.tensor.name: audit.verdict for audit in sweep.tensors}


@pytest.mark.parametrize("count", [None, 40])
@pytest.mark.parametrize("kind", [T.Q8_0, T.Q4_1, T.F32])
def test_fused_tensors_are_compared_with_their_parts(tmp_path: Path, kind: T, count: int | None) -> None:
    sweep, found = swept(tmp_path, plain(), fused(kind=kind), count)
    assert (set(found.values()), sweep.missing) == ({Verdict.EXACT}, ())


def test_the_weights_are_hashed_as_they_are_stored(tmp_path: Path) -> None:
    """So a fused quant and another one of the same weights name the same root."""
    sweep, _ = swept(tmp_path, plain(), fused())
    entries = [
        TensorEntry(name, kind.name, shape, hashlib.sha256(data).hexdigest())
        for name, (kind, shape, data) in sorted(plain().items())
    ]
    assert sweep.source == (*entries,) and sweep.source_root == weights_root(entries)


def changed(values: Floats) -> Floats:
    other = values.copy()
    other.reshape(-1, COLUMNS)[-1] *= -1
    return other


@pytest.mark.parametrize(
    "qkv", [(Q, V, K), (K, Q, V), (changed(Q), K, V), (Q, changed(K), V), (Q, K, changed(V)), (Q, K), (Q, K, V, V)]
)
def test_other_queries_keys_or_values_are_a_mismatch(tmp_path: Path, qkv: tuple[Floats, ...]) -> None:
    _, found = swept(tmp_path, plain(), fused(qkv))
    assert {name for name, verdict in found.items() if verdict is Verdict.MISMATCH} == {QKV}


@pytest.mark.parametrize("experts", [(UP, GATE), (changed(GATE), UP), (GATE, UP[::-1])])
def test_other_experts_are_a_mismatch(tmp_path: Path, experts: tuple[Floats, ...]) -> None:
    _, found = swept(tmp_path, plain(), fused(experts=experts))
    assert {name for name, verdict in found.items() if verdict is Verdict.MISMATCH} == {EXPS}


def test_a_changed_bias_is_a_mismatch(tmp_path: Path) -> None:
    subject = fused() | {QKV_BIAS: shaped(np.concatenate([BIASES[0], BIASES[2], BIASES[1]]))}
    _, found = swept(tmp_path, plain(), subject)
    assert {name for name, verdict in found.items() if verdict is Verdict.MISMATCH} == {QKV_BIAS}


def test_what_upstream_does_not_fuse_is_no_fused_tensor(tmp_path: Path) -> None:
    """A layer with some of the biases; and one that is there fused, and apart once more."""
    assert swept(tmp_path, plain(biases=2), fused())[1][QKV] is Verdict.MISMATCH
    twice = fused() | {"blk.0.attn_k.weight": shaped(K)}
    assert swept(tmp_path, plain(), twice)[1][QKV] is Verdict.MISMATCH
    without = {name: each for name, each in plain().items() if not name.endswith("attn_v.weight")}
    assert swept(tmp_path, without, fused())[1][QKV] is Verdict.MISMATCH


def test_fused_weights_say_nothing_of_their_parts(tmp_path: Path) -> None:
    """Where the named weights are fused and the quant is not, they cannot tell where a part ends."""
    subject = {**plain(), "output_norm.weight": shaped(numbers(7, COLUMNS))}
    sweep, found = swept(tmp_path, fused(kind=T.F32), subject)
    assert Verdict.MISMATCH not in found.values() and sweep.missing == ()
    [audit] = [audit for audit in sweep.tensors if audit.tensor.name == "blk.0.attn_k.bias"]
    assert audit.reason == f"the named weights store it within {QKV_BIAS}: name weights that store it apart"
    assert spoken(audit.reason).zh.startswith("指定的权重把它存放在")


def test_a_part_that_is_gone_is_missing(tmp_path: Path) -> None:
    """Not excused by the parts that are there."""
    left = {name: each for name, each in plain().items() if name != "blk.0.attn_v.weight"}
    assert swept(tmp_path, fused(kind=T.F32), left)[0].missing == (QKV,)


def test_a_journal_of_fused_tensors_is_gone_on_with(tmp_path: Path) -> None:
    times = iter(range(0, 10_000, 1_000))
    first = Journal(tmp_path / "journal", clock=lambda: next(times))
    before, _ = swept(tmp_path, plain(), fused(), journal=first)
    after, found = swept(tmp_path, plain(), fused(), journal=Journal(tmp_path / "journal"))
    assert (after.derived_before, set(found.values())) == (4, {Verdict.EXACT})
    assert after.source_root == before.source_root


def test_it_is_said(tmp_path: Path) -> None:
    named, their = opened(written(tmp_path / "weights.gguf", plain()))
    with named:
        found = as_fused_by(fused(), GGUFWeights(named, their))
        assert isinstance(found, FusedWeights) and of_gguf(found)
        over = found.over(HashedWeights(found.weights))
        assert (over.shapes, over.parts) == (found.shapes, found.parts)
    note = (
        f"compared with several tensors of the named weights, which the quant stores as one: {QKV}, {QKV_BIAS}, {EXPS}"
    )
    assert found.note == note and spoken(note).zh.startswith("与指定权重里的几个张量比较")
