"""Tensors that a quant stores as one and the weights as several: ``--fuse-qkv`` and ``--fuse-gate-up-exps``.

Upstream's converter puts the rows of queries, keys and values one after another, and within each expert those of gate
and up: ``prepare_qkv_fusion`` and ``modify_tensors`` in ``conversion/base.py`` of llama.cpp 0c1e57098bba. That is the
last that it does to them, so the rows are those of the parts, whatever else the converter does to a model. It fuses
biases with their weights, and a layer that has only some of the biases not at all.
"""

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from requant.conversion.weights import Weights
from requant.formats.ggml import COPIED, Bytes, Floats, GGMLType, Indices
from requant.ground.text import listed

PARTS = {"attn_qkv": ("attn_q", "attn_k", "attn_v"), "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps")}
"""What is put together, in this order, of one layer."""
BIASED = "attn_qkv"
"""What upstream fuses with its biases; of others it leaves them."""
WEIGHT, BIAS = ".weight", ".bias"
FUSED = re.compile(rf"(blk\.\d{{1,7}}\.)({'|'.join(PARTS)})\{WEIGHT}")
WHOLE = re.compile(rf"(blk\.\d{{1,7}}\.)({'|'.join(PARTS)})(\{WEIGHT}|\{BIAS})")
PART = re.compile(rf"(blk\.\d{{1,7}}\.)({'|'.join(sum(PARTS.values(), ()))})(\{WEIGHT}|\{BIAS})")


class FusedWeights:
    """Weights as a quant has them that stores some of their tensors as one.

    ``weights`` are those that are fused, ``parts`` the names of what each fused tensor is made of.
    """

    def __init__(self, weights: Weights, parts: Mapping[str, tuple[str, ...]]) -> None:
        self.weights, self.parts = weights, parts
        self.shown, self.vias = weights.shown, weights.vias
        taken = {part for names in parts.values() for part in names}
        shapes = {name: shape for name, shape in weights.shapes.items() if name not in taken}
        self.shapes: Mapping[str, tuple[int, ...]] = shapes | {name: self._shape(parts[name]) for name in parts}

    def over(self, weights: Weights) -> "FusedWeights":
        """The same tensors fused, of the same weights read by other means."""
        return FusedWeights(weights, self.parts)

    @property
    def note(self) -> str:
        """What is odd about that, in words."""
        names = listed([*self.parts])
        return f"compared with several tensors of the named weights, which the quant stores as one: {names}"

    def _shape(self, parts: tuple[str, ...]) -> tuple[int, ...]:
        shapes = [self.weights.shapes[part] for part in parts]
        if len(shapes[0]) == 1:
            return (sum(shape[0] for shape in shapes),)
        return (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])

    def unchecked(self, name: str) -> str | None:
        """As of the weights; of several, of all."""
        parts = self.parts.get(name, (name,))
        if why := next((why for part in parts if (why := self.weights.unchecked(part))), None):
            return why
        kinds = {self.weights.plain(part) for part in parts}
        return "the weights hold its parts in several types" if len(kinds) > 1 and kinds & {*COPIED} else None

    def tolerance(self, name: str) -> float:
        """As of the weights."""
        return max(map(self.weights.tolerance, self.parts.get(name, (name,))))

    def plain(self, name: str) -> GGMLType:
        """As of the weights; what comes in several types loses nothing as F32."""
        kind, *others = {self.weights.plain(part) for part in self.parts.get(name, (name,))}
        return GGMLType.F32 if others else kind

    def rows(self, name: str, indices: Indices) -> Floats:
        """Rows of a tensor, as of the weights."""
        if name not in self.parts:
            return self.weights.rows(name, indices)
        if len(self.shapes[name]) == 1:
            return np.concatenate([self.weights.rows(part, indices) for part in self.parts[name]], 1)
        found = np.empty((len(indices), self.shapes[name][0]), np.float32)
        for part, at, rows in self._places(name, indices):
            found[at] = self.weights.rows(part, rows)
        return found

    def packed(self, name: str, indices: Indices) -> Bytes:
        """The same of rows that are not read as numbers."""
        if name not in self.parts:
            return self.weights.packed(name, indices)
        if len(self.shapes[name]) == 1:
            return np.concatenate([self.weights.packed(part, indices) for part in self.parts[name]], 1)
        places = [(at, self.weights.packed(part, rows)) for part, at, rows in self._places(name, indices)]
        found = np.empty((len(indices), places[0][1].shape[1] if places else 0), np.uint8)
        for at, data in places:
            found[at] = data
        return found

    def _places(self, name: str, indices: Indices) -> Iterator[tuple[str, Indices, Indices]]:
        """Of each part that some rows come from: where in ``indices`` they stand, and their numbers in the part."""
        expert, within = np.divmod(indices, self.shapes[name][1])
        first = 0
        for part in self.parts[name]:
            height = self.weights.shapes[part][1]
            at = np.flatnonzero((first <= within) & (within < first + height))
            if len(at):
                yield part, at, expert[at] * height + within[at] - first
            first += height


def as_fused_by(names: Collection[str], weights: Weights) -> Weights:
    """The weights as a quant would hold them that has tensors of these names."""
    parts: dict[str, tuple[str, ...]] = {}
    for name in names:
        if name not in weights.shapes and (found := FUSED.fullmatch(name)):
            parts |= _fused(found[1], found[2], names, weights)
    return FusedWeights(weights, parts) if parts else weights


def unfused(weights: Weights) -> Weights:
    """The weights as they are stored."""
    return weights.weights if isinstance(weights, FusedWeights) else weights


def holder(name: str, shapes: Collection[str]) -> str | None:
    """The tensor of the weights that holds one which they do not store apart, if it is such a part."""
    found = PART.fullmatch(name)
    if found is None or name in shapes:
        return None
    whole = next(f"{found[1]}{whole}{found[3]}" for whole, parts in PARTS.items() if found[2] in parts)
    return whole if whole in shapes else None


def parts_of(name: str) -> tuple[str, ...]:
    """What a fused tensor is made of; nothing of another one."""
    found = WHOLE.fullmatch(name)
    return tuple(f"{found[1]}{part}{found[3]}" for part in PARTS[found[2]]) if found else ()


def _fused(layer: str, what: str, names: Collection[str], weights: Weights) -> dict[str, tuple[str, ...]]:
    """What upstream would fuse of a layer; nothing if it would not, or ``names`` have it otherwise."""
    parts = tuple(f"{layer}{part}" for part in PARTS[what])
    made = {f"{layer}{what}{WEIGHT}": tuple(f"{part}{WEIGHT}" for part in parts)}
    biases = tuple(f"{part}{BIAS}" for part in parts)
    if what == BIASED and any(bias in weights.shapes for bias in biases):
        made[f"{layer}{what}{BIAS}"] = biases
    stored = {part for each in made.values() for part in each}
    if not made.keys() <= {*names} or stored & {*names} or not stored <= weights.shapes.keys():
        return {}
    return made if all(_alike([weights.shapes[part] for part in each]) for each in made.values()) else {}


def _alike(shapes: list[tuple[int, ...]]) -> bool:
    """Whether tensors of these shapes can follow one another row by row, of vectors number by number."""
    return len({(len(shape), *shape[:1], *shape[2:]) if len(shape) > 1 else (1,) for shape in shapes}) == 1
