"""Rows of several stored tensors, read together."""

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from requant.formats.safetensors import read_safetensors, rows_as_float32, rows_of_many
from requant.ground.errors import FormatError
from support.memory_file import Memory

SINGLES = np.arange(280, dtype=np.float32).reshape(40, 7)


def test_what_lies_in_one_file_is_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts are stored one by one."""
    one = read_safetensors(Memory(save({"a": SINGLES, "b": SINGLES[::-1].copy()})))
    other = read_safetensors(Memory(save({"c": SINGLES[:2]})))
    wanted: list[tuple[Any, Any]] = [
        (one["b"], [9, 3]),
        (other["c"], slice(None)),
        (one["a"], slice(3, 5)),
        (one["a"], []),
    ]
    calls: list[int] = []
    read = Memory.read_many
    monkeypatch.setattr(Memory, "read_many", lambda self, ranges: (calls.append(len(ranges)), read(self, ranges))[1])
    found = rows_of_many(wanted)
    assert calls == [3, 1]
    for rows, (stored, indices) in zip(found, wanted, strict=True):
        assert np.array_equal(rows, rows_as_float32(stored, indices))
    assert np.array_equal(found[0], SINGLES[::-1][[9, 3]])
    with pytest.raises(FormatError, match="so not all of 40 to 40"):
        rows_of_many([(one["a"], [0]), (other["c"], [1]), (one["b"], [40])])
    assert rows_of_many([]) == []
