"""What upstream's classes made of labels: where the rows of every tensor of a GGUF lie, as far as that shows."""

from typing import Any

import numpy as np

from .labels import KEYS, NARROW, STEP, WIDE_KEY, Checkpoint, decoded, runs_of
from .packed import CODES, unpacked

KEPT = 1 << 24
"""Elements of an outcome that is no row of labels, to be looked at again."""
MXFP4 = "MXFP4"


class Answer:
    """What every tensor of the GGUF is, as far as that is found out."""

    def __init__(self, checkpoint: Checkpoint, shapes: dict[str, tuple[tuple[int, ...], str]]) -> None:
        self._checkpoint, self._shapes = checkpoint, shapes
        self._sizes = {name: int(np.prod(shape, dtype=np.int64)) for name, (shape, _) in shapes.items()}
        real = [values.reshape(-1) for values in checkpoint.values.values()]
        # Moved and one more: what any machine computes of them is the same to the last bit.
        self._exact = np.unique(
            np.concatenate([np.zeros(1, np.float32), *real, *(each + np.float32(1) for each in real)])
        )
        self.tensors: dict[str, dict[str, Any]] = {}
        self.scales: dict[int, tuple[int, int, int]] = {}
        self.arrays: dict[str, Any] = {}
        self.open: dict[str, Any] = {}
        self.came_with: dict[str, str | None] = {}

    def rows(self, name: str, found: Any, caller: str | None) -> None:
        """Settle an outcome whose rows are labels; keep any other."""
        if name not in self._shapes:
            return
        self.came_with[name] = caller
        columns = self._shapes[name][0][0]
        if found.dtype == np.float32 and found.ndim and found.shape[-1] == NARROW:
            parts = [found[..., part] for part in range(NARROW)]
            elements = decoded(parts, KEYS[0], self._checkpoint.total).reshape(-1)
            owners = self._checkpoint.owners(elements)
            widths = {self._checkpoint.stored[owner].columns for owner in np.unique(owners).tolist()}
            if (elements >= 0).all() and widths == {columns} and len(elements) * columns == self._sizes[name]:
                self._settle(name, elements, owners, None)
                return
        if self._shapes[name][1] == MXFP4 and found.dtype == np.uint8 and self._settle_blocks(name, found):
            return
        if found.size <= KEPT:
            self.open[name] = np.array(found)

    def _settle_blocks(self, name: str, found: Any) -> bool:
        """Settle an outcome all of whose rows are blocks with their scales."""
        starts = unpacked(found)
        if starts is None or min(map(np.min, starts)) < 0 or max(map(np.max, starts)) >= self._checkpoint.total:
            return False
        owners, scaled = (self._checkpoint.owners(each) for each in starts)
        bases = self._checkpoint.bases
        pairs = {*zip(owners.tolist(), scaled.tolist(), strict=True)}
        apart = (starts[0] - bases[owners]) != (starts[1] - bases[scaled]) * CODES
        columns = {self._checkpoint.stored[codes].shape[-2] * 2 * CODES for codes, _ in pairs}
        wanted = self._shapes[name][0]
        if apart.any() or columns != {wanted[0]} or len(owners) * wanted[0] != self._sizes[name]:
            return False
        if any(self.scales.setdefault(codes, (scales, 1, CODES))[0] != scales for codes, scales in pairs):
            return False
        self._settle(name, starts[0], owners, None)
        return True

    @property
    def odd(self) -> list[str]:
        """The tensors with which the outcomes came that are not settled."""
        return [caller for name, caller in self.came_with.items() if name in self.open and caller]

    def same(self, name: str, found: Any, _caller: str | None) -> None:
        """Settle an outcome that is the same with other labels: it was made of real values."""
        first = self.open.get(name)
        if first is None or found.size != self._sizes[name] or not np.array_equal(first, found, equal_nan=True):
            return
        near = self._exact[np.minimum(np.searchsorted(self._exact, found), len(self._exact) - 1)]
        self.arrays[key := f"values{len(self.arrays)}"] = np.array(found, np.float32)
        self.tensors[name] = {"values": key, "exact": bool((near == found).all())}

    def elements(self, name: str, parts: list[Any], _caller: str) -> None:
        """Settle an outcome all of whose rows are made of their elements in the same way."""
        if name not in self._shapes or any(part.size != self._sizes[name] for part in parts):
            return
        columns = self._shapes[name][0][0]
        rows = [part.reshape(-1, columns) for part in parts]
        within, starts = None, []
        for first in range(0, len(rows[0]), step := max(1, STEP // columns)):
            elements = decoded([part[first : first + step] for part in rows], WIDE_KEY, self._checkpoint.total)
            owners = self._checkpoint.owners(elements)
            within = elements[0] - elements[0, 0] if within is None else within
            apart = elements - elements[:, :1] != within
            if (elements < 0).any() or (owners != owners[:, :1]).any() or apart.any():
                return
            starts.append(elements[:, 0])
        found = np.concatenate(starts)
        self._settle(name, found, self._checkpoint.owners(found), within)

    def _settle(self, name: str, elements: Any, owners: Any, within: Any) -> None:
        runs = runs_of(elements - self._checkpoint.bases[owners], owners)
        self.arrays[key := f"runs{len(self.arrays)}"] = runs
        self.tensors[name] = {"runs": key}
        if within is not None and not np.array_equal(within, np.arange(len(within))):
            self.arrays[key := f"within{len(self.arrays)}"] = within
            self.tensors[name]["within"] = key

    def document(self, failed: dict[str, str]) -> dict[str, Any]:
        """All tensors in upstream's order; ``failed`` says what upstream's class could not do with labels."""
        found = {}
        for name, (shape, kind) in self._shapes.items():
            settled = self.tensors.get(name)
            if settled is None:
                caller = self.came_with.get(name)
                why = failed.get(caller or "") or next(iter(failed.values()), None)
                said = f" ({why})" if why else ""
                settled = {"unchecked": f"upstream's converter computes it, and not from small tensors{said}"}
            found[name] = {"shape": shape, "type": kind, **settled}
        return found
