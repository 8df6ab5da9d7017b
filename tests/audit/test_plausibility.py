"""requant.audit.recipe.plausibility: an honest importance matrix passes, and every way to be none is named."""

from collections.abc import Callable

import numpy as np
import pytest

from requant.audit.metadata.comparison import Grade
from requant.audit.recipe.plausibility import check_plausible
from requant.formats.imatrix import Entry, Imatrix

DENSE, EXPERTS = "blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"
SHAPES = {
    "token_embd.weight": (8, 100),
    "output.weight": (8, 100),
    "blk.0.attn_norm.weight": (8,),
    DENSE: (8, 16),
    EXPERTS: (8, 4, 3),
}
MATRICES = [name for name, shape in SHAPES.items() if len(shape) > 1]
TOKENS = 2 * 16


def entry(experts: int = 1, columns: int = 8, counts: tuple[float, ...] = (TOKENS,)) -> Entry:
    squares = np.arange(1, experts * columns + 1, dtype=np.float32).reshape(experts, columns)
    return Entry(squares, np.array(counts, np.float32))


def honest() -> Imatrix:
    entries = {DENSE: entry(), EXPERTS: entry(3, 8, (TOKENS, 20, 12))}
    return Imatrix("imatrix.gguf", ["text"], 2, 16, entries)


def changed(entries: dict[str, Entry], chunks: int = 2, size: int = 16) -> Imatrix:
    return Imatrix("imatrix.gguf", ["text"], chunks, size, honest().entries | entries)


def without(name: str) -> Imatrix:
    entries = {key: value for key, value in honest().entries.items() if key != name}
    return Imatrix("imatrix.gguf", ["text"], 2, 16, entries)


def zeroed(name: str, expert: int) -> Imatrix:
    found = honest().entries[name]
    squares = found.in_sum2.copy()
    squares[expert] = 0
    return changed({name: Entry(squares, found.counts)})


def test_an_honest_one_has_no_findings() -> None:
    assert check_plausible(honest(), SHAPES, MATRICES) == []


WRONG: dict[str, tuple[Callable[[], Imatrix], str, Grade, str]] = {
    "a weight is missing": (lambda: without(DENSE), DENSE, Grade.SERIOUS, "was not measured"),
    "a weight of another model": (lambda: changed({"blk.9.x.weight": entry()}), "blk.9.x.weight", Grade.SERIOUS, "no tensor"),
    "a norm": (lambda: changed({"blk.0.attn_norm.weight": entry()}), "blk.0.attn_norm.weight", Grade.SERIOUS, "nothing that llama-imatrix"),
    "the embedding": (lambda: changed({"token_embd.weight": entry()}), "token_embd.weight", Grade.SERIOUS, "nothing that llama-imatrix"),
    "the output": (lambda: changed({"output.weight": entry()}), "output.weight", Grade.HARMLESS, "--process-output"),
    "other columns": (lambda: changed({DENSE: entry(columns=9)}), DENSE, Grade.SERIOUS, "another shape"),
    "other experts": (lambda: changed({EXPERTS: entry(2, 8, (TOKENS, TOKENS))}), EXPERTS, Grade.SERIOUS, "another shape"),
    "too few tokens": (lambda: changed({DENSE: entry(counts=(16,))}), DENSE, Grade.SERIOUS, "other tokens than the chunks"),
    "an expert saw too much": (lambda: changed({EXPERTS: entry(3, 8, (TOKENS + 1, 20, 11))}), EXPERTS, Grade.SERIOUS, "cannot have seen"),
    "experts saw an odd number": (lambda: changed({EXPERTS: entry(3, 8, (TOKENS, 20, 11))}), EXPERTS, Grade.SERIOUS, "cannot have seen"),
    "nothing but zeros": (lambda: zeroed(DENSE, 0), DENSE, Grade.SERIOUS, "nothing was measured"),
    "one expert of zeros": (lambda: zeroed(EXPERTS, 1), EXPERTS, Grade.SERIOUS, "nothing was measured"),
    "an expert saw nothing": (lambda: changed({EXPERTS: entry(3, 8, (TOKENS, TOKENS, 0))}), EXPERTS, Grade.HARMLESS, "importance 1"),
    "an odd chunk": (lambda: changed({DENSE: entry(counts=(30,)), EXPERTS: entry(3, 8, (30, 30, 30))}, 2, 15), "imatrix.chunk_size", Grade.SERIOUS, "no length"),
    "a huge chunk": (lambda: changed({DENSE: entry(counts=(2**22,)), EXPERTS: entry(3, 8, (2**22,) * 3)}, 2, 2**21), "imatrix.chunk_size", Grade.SERIOUS, "no length"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_no_run_gives_is_named(name: str) -> None:
    make, key, grade, words = WRONG[name]
    [finding] = check_plausible(make(), SHAPES, MATRICES)
    assert (finding.key, finding.grade) == (key, grade)
    assert words in finding.sentence


def test_no_chunks_at_all() -> None:
    findings = check_plausible(changed({}, 0), SHAPES, MATRICES)
    assert findings[0].key == "imatrix.chunk_count"
    assert {finding.key for finding in findings} == {"imatrix.chunk_count", DENSE, EXPERTS}


def old(entries: dict[str, Entry]) -> Imatrix:
    """In the old format, which knows neither tokens nor experts."""
    flat = {name: Entry(each.in_sum2.reshape(1, -1), np.array([2], np.float32)) for name, each in entries.items()}
    return Imatrix("imatrix.dat", [], 0, None, flat)


def test_the_old_format_is_not_asked_for_tokens() -> None:
    [finding] = check_plausible(old(honest().entries), SHAPES, MATRICES)
    assert (finding.key, finding.grade) == ("imatrix.chunk_size", Grade.HARMLESS)
    assert "the old format says nothing of tokens" in finding.sentence


@pytest.mark.parametrize(
    "case", ["a weight is missing", "a norm", "other columns", "other experts", "nothing but zeros"]
)
def test_what_else_the_old_format_can_have_wrong_is_named(case: str) -> None:
    make, key, grade, words = WRONG[case]
    _, finding = check_plausible(old(make().entries), SHAPES, MATRICES)
    assert (finding.key, finding.grade) == (key, grade)
    assert words in finding.sentence
