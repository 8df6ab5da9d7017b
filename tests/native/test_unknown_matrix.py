"""Whole quants whose importance matrix is not the one at hand: consistent, changed, or another quantizer's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from requant.audit.answers import cover
from requant.audit.weights.journal import Journal
from requant.audit.weights.sweep import Sweep
from requant.conversion.weights import GGUFWeights, rounded
from requant.formats.ggml import Arithmetic, Bytes, Floats
from requant.formats.ggml import GGMLType as T
from requant.quantization.verdict import Verdict
from support.planted import CHANGES, flipped, kept_quants
from support.quants import audited, kept, opened, written

COLUMNS, ROWS = 512, 48
KINDS: Mapping[str, T] = {
    "token_embd.weight": T.Q6_K,
    "blk.0.attn_q.weight": T.Q4_K, "blk.0.attn_v.weight": T.Q6_K, "blk.0.ffn_up.weight": T.IQ4_XS,
    "blk.1.attn_q.weight": T.Q4_K, "blk.1.attn_v.weight": T.Q5_0, "blk.1.ffn_up.weight": T.IQ3_S,
}  # fmt: skip
EMBEDDING, Q, V, UP, LAST_Q, LAST_V, GRID = KINDS
WEIGHTS: Mapping[str, Floats] = {
    name: (np.random.default_rng(number).standard_normal((ROWS, COLUMNS)) / 50).astype(np.float32)
    for number, name in enumerate(KINDS)
}
CONSISTENT, EXACT, MISMATCH, UNCHECKED = Verdict.CONSISTENT, Verdict.EXACT, Verdict.MISMATCH, Verdict.UNCHECKED


def matrix(seed: int) -> dict[str, Floats]:
    """Importances of all but the embedding, as llama-imatrix measures them."""
    generator = np.random.default_rng(seed)
    return {name: generator.chisquare(1, COLUMNS).astype(np.float32) for name in KINDS if name != EMBEDDING}


USED = matrix(1)
Change = Callable[[dict[str, Bytes]], None]


def quantized(
    weights: Mapping[str, Floats] = WEIGHTS, importances: Mapping[str, Floats] = USED,
    arithmetic: Arithmetic = Arithmetic.STRICT,
) -> dict[str, Bytes]:  # fmt: skip
    return {name: kept(arithmetic).quantize(kind, weights[name], importances.get(name)) for name, kind in KINDS.items()}


def swept(
    folder: Path, quants: Mapping[str, Bytes], at_hand: Mapping[str, Floats], rows: int | None = None,
    journal: Journal | None = None,
) -> tuple[dict[str, Verdict], Sweep]:  # fmt: skip
    shape = COLUMNS, ROWS
    subject = written(folder / "q.gguf", {name: (KINDS[name], shape, data.tobytes()) for name, data in quants.items()})
    plain = {name: (T.F32, shape, rows.tobytes()) for name, rows in WEIGHTS.items()}
    file, header = opened(written(folder / "w.gguf", plain))
    with file:
        selected = cover(opened(subject)[1], rows, 3).selected
        found = audited(subject, GGUFWeights(file, header), at_hand, selected, journal)
    return {audit.tensor.name: audit.verdict for audit in found.tensors}, found


QUANTS = quantized()
ALL = {name: EXACT if name == EMBEDDING else CONSISTENT for name in KINDS}


@pytest.mark.parametrize("rows", [None, 60], ids=["full", "sample"])
@pytest.mark.parametrize("at_hand", [{}, matrix(2)], ids=["unknown", "replaced later"])
def test_another_matrix_than_was_used(tmp_path: Path, at_hand: Mapping[str, Floats], rows: int | None) -> None:
    said, found = swept(tmp_path, QUANTS, at_hand, rows)
    assert said == ALL
    assert found.weighed is None or not at_hand
    for audit in found.tensors[1:]:
        consistency = audit.tally.consistency
        assert consistency.quants == audit.tally.rows * COLUMNS and not consistency.off
        assert 0.8 < consistency.ratio < 1.5 and 1 <= consistency.worst < 10


@pytest.mark.parametrize("via", [T.F16, T.BF16])
@pytest.mark.parametrize("arithmetic", Arithmetic)
def test_made_of_rounded_weights(tmp_path: Path, arithmetic: Arithmetic, via: T) -> None:
    """The embedding, exact, tells which way; without it the quants do."""
    quants = quantized({name: rounded(rows, via) for name, rows in WEIGHTS.items()}, USED, arithmetic)
    assert swept(tmp_path, quants, {})[0] == ALL
    del quants[EMBEDDING]
    assert set(swept(tmp_path, quants, {})[0].values()) == {CONSISTENT}


def test_left_out_of_the_matrix(tmp_path: Path) -> None:
    """Quantized with what is not at hand: its scales are not derived."""
    short = {name: by for name, by in USED.items() if name != Q}
    said, found = swept(tmp_path, QUANTS, short)
    assert said == dict.fromkeys(KINDS, EXACT) | {Q: CONSISTENT}
    assert (found.weighed, found.excluded) == (True, ())


@pytest.mark.parametrize(("excluded", "arithmetic", "rows"), [
    ([LAST_V], Arithmetic.STRICT, 60), ([UP, Q], Arithmetic.FUSED, None), ([V, Q, UP, LAST_Q, LAST_V], Arithmetic.STRICT, None),
], ids=["one, a sample", "two", "all but one"])  # fmt: skip
def test_importances_kept_from_some(
    tmp_path: Path, excluded: list[str], arithmetic: Arithmetic, rows: int | None
) -> None:
    """``--exclude-weights``: every tensor derives, one way or the other, and it is said which way. As many as you like."""
    short = {name: by for name, by in USED.items() if name not in excluded}
    said, found = swept(tmp_path, quantized(importances=short, arithmetic=arithmetic), USED, rows)
    assert said == dict.fromkeys(KINDS, EXACT)
    assert (found.weighed, {*found.excluded}, {*found.used}) == (True, {*excluded}, {*short})
    assert found.arithmetic is arithmetic


def test_an_audit_of_such_a_file_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found both ways about importances is taken from the journal, for the very bytes that were hashed."""
    monkeypatch.setattr("requant.audit.weights.journal.WORTH", 0.0)
    quants = quantized(importances={name: by for name, by in USED.items() if name != UP})
    first, again = (swept(tmp_path, quants, USED, journal=Journal(tmp_path / "journal"))[1] for _ in range(2))
    assert (first.derived_before, again.derived_before) == (0, len(KINDS))
    assert first.excluded == again.excluded == (UP,)
    assert [each.tally for each in first.tensors] == [each.tally for each in again.tensors]
    assert first.source_root == again.source_root and first.sha256s == again.sha256s


def test_without_any_importances_nothing_is_kept_from_some(tmp_path: Path) -> None:
    said, found = swept(tmp_path, quantized(importances={}), USED)
    assert (said, found.weighed, found.used, found.excluded) == (dict.fromkeys(KINDS, EXACT), False, (), ())


@pytest.mark.parametrize("change", [None, "noise of 1 %"])
def test_a_changed_row_among_them_is_evidence(tmp_path: Path, change: str | None) -> None:
    """Two rows exchanged, or of changed weights, both made without importances as the others of that tensor."""
    short = {name: by for name, by in USED.items() if name != Q}
    quants = quantized(importances=short)
    weights = WEIGHTS[Q][[8, 7]] if change is None else CHANGES[change](WEIGHTS[Q][7:9], generator())
    altered(Q, kept(Arithmetic.STRICT).quantize(KINDS[Q], weights, None), 7)(quants)
    said, _ = swept(tmp_path, quants, USED)
    assert said == dict.fromkeys(KINDS, EXACT) | {Q: MISMATCH}


def test_importances_that_cannot_be_used_explain_nothing(tmp_path: Path) -> None:
    """A matrix lies beside the quant, so the forger's own: what it makes impossible to derive stays evidence."""
    quants = quantized(importances={})
    quants[Q] = quants[Q][::-1].copy()
    for beyond in (1.0, 2e12):
        said, found = swept(tmp_path, quants, matrix(2) | {Q: np.full(COLUMNS, beyond, np.float32)})
        assert (said[Q], found.weighed, found.used) == (MISMATCH, False, ()), beyond


def test_importances_of_another_tensor_are_not_none(tmp_path: Path) -> None:
    """Neither its own importances nor none: unknown ones, as ever."""
    said, found = swept(tmp_path, quantized(importances={**USED, Q: USED[V]}), USED)
    assert (said, found.excluded) == (dict.fromkeys(KINDS, EXACT) | {Q: CONSISTENT}, ())


def test_a_matrix_measured_again(tmp_path: Path) -> None:
    """Other code gives columns that differ in the last digits, and some blocks with them: not throughout."""
    noise = np.random.default_rng(4)
    again = {name: (by * (1 + 1e-2 * noise.standard_normal(by.shape))).astype(np.float32) for name, by in USED.items()}
    for rows in (None, 20):
        said, found = swept(tmp_path, {name: QUANTS[name] for name in (EMBEDDING, Q, V, LAST_Q)}, again, rows)
        assert CONSISTENT in said.values() and not {MISMATCH, UNCHECKED} & set(said.values())
        assert found.weighed is True


def altered(name: str, rows: Bytes, first: int = 0) -> Change:
    def change(quants: dict[str, Bytes]) -> None:
        quants[name] = quants[name].copy()
        quants[name][first : first + len(rows)] = rows

    return change


def generator() -> np.random.Generator:
    return np.random.default_rng(55)


def remade(name: str, change: str, rows: slice = slice(None)) -> Change:
    weights = CHANGES[change](WEIGHTS[name][rows], generator())
    return altered(name, kept(Arithmetic.STRICT).quantize(KINDS[name], weights, USED[name]), rows.start or 0)


PLANTED: Mapping[str, tuple[str, Change]] = {
    "noise of 0.1 % in a tensor": (Q, remade(Q, "noise of 0.1 %")),
    "noise of 1 % in a tensor": (V, remade(V, "noise of 1 %")),
    "a LoRA of 2 % in a tensor": (LAST_V, remade(LAST_V, "a LoRA of 2 %")),
    "a tensor of another seed": (UP, remade(UP, "another seed")),
    "a row of another seed": (UP, remade(UP, "another seed", slice(40, 41))),
    "a row of another seed, in a grid": (GRID, remade(GRID, "another seed", slice(9, 10))),
    "a flipped bit": (LAST_Q, altered(LAST_Q, flipped(T.Q4_K, QUANTS[LAST_Q][7], generator())[None], 7)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_changed_is_a_mismatch(tmp_path: Path, name: str) -> None:
    """One maker rounds everything alike: the other tensors show how."""
    changed, change = PLANTED[name]
    quants = dict(QUANTS)
    change(quants)
    said, found = swept(tmp_path, quants, {})
    assert said == ALL | {changed: MISMATCH}
    [audit] = [audit for audit in found.tensors if audit.tensor.name == changed]
    far = "further from the weights than zeros are"
    assert (far if "a tensor of another" in name else "quants are not what the weights round to") in (
        audit.reason or ""
    )
    assert audit.tally.consistency.places


def test_altered_beside_its_matrix(tmp_path: Path) -> None:
    """A few odd blocks in a file that is exact otherwise are alterations, though their quants follow from the weights."""
    quants = dict(QUANTS)
    other = kept(Arithmetic.STRICT).quantize(T.Q4_K, WEIGHTS[Q][:2], matrix(2)[Q])
    altered(Q, other)(quants)
    assert swept(tmp_path, quants, USED)[0] == dict.fromkeys(KINDS, EXACT) | {Q: MISMATCH}


@pytest.mark.parametrize("change", CHANGES)
def test_other_weights_throughout(tmp_path: Path, change: str) -> None:
    """All that importances touch is of other weights, as after a merge: nothing is exact but the embedding."""
    weights = {
        name: rows if name == EMBEDDING else CHANGES[change](rows, generator()) for name, rows in WEIGHTS.items()
    }
    said, _ = swept(tmp_path, quantized(weights), {})
    assert said[EMBEDDING] == EXACT and MISMATCH in said.values()
    if change == "another seed":
        assert {verdict for name, verdict in said.items() if name != EMBEDDING} == {MISMATCH}


def test_a_quantizer_that_keeps_what_its_search_found(tmp_path: Path) -> None:
    """Nobody is accused of another search."""
    makes = {name: data for name, data in QUANTS.items() if KINDS[name] in (T.Q4_K, T.Q6_K) and name != EMBEDDING}
    quants = {name: kept_quants(KINDS[name], WEIGHTS[name], data, generator()) for name, data in makes.items()}
    said, found = swept(tmp_path, quants, {})
    assert set(said.values()) == {UNCHECKED}
    assert all("another quantizer may keep such quants" in (audit.reason or "") for audit in found.tensors)
