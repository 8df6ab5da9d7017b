"""Many audits in one process hold nothing: neither files, nor threads, nor memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from requant.audit.question import Question, audit
from support.load import growth, write_pair

EACH = 100_000
"""Bytes an audit may leave behind; a file it reads has twice as many."""


def test_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    quant, weights = write_pair(tmp_path)
    held = growth(lambda seed: audit(Question(f"{quant}/", f"{weights}/weights.gguf", rows=50, seed=seed)), 10)
    assert (held.descriptors, held.threads) == (0, 0) and held.memory < 10 * EACH, held
