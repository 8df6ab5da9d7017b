"""The map of an audit: layers down, kinds of tensors across, and what lies outside the blocks by itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BLOCK = re.compile(r"(?:([A-Za-z_]{1,16})\.)?blk\.(0|[1-9][0-9]{0,4})\.(.+)", re.DOTALL)
"""A tensor of a layer; before it stands whose layers these are (``v``, ``enc``), where a model has several stacks."""
SPARSE = 16
"""Places in a map for each tensor in it: what is scattered more is no table, but a list."""
MISSING = "missing"
"""In place of a verdict: a weight that the quant lacks."""


@dataclass(frozen=True)
class Cell:
    """A tensor on the map: its number in the document's list, and what was found; ``None`` where the quant lacks it."""

    number: int | None
    name: str
    label: str
    verdict: str
    tensor: Mapping[str, Any] | None


@dataclass(frozen=True)
class Stack:
    """Layers of one stack: ``kinds`` across, and of each layer a cell or nothing below each of them."""

    name: str
    kinds: Sequence[str]
    layers: Mapping[int, Sequence[Cell | None]]


@dataclass(frozen=True)
class TensorMap:
    """Every tensor once: those ``outside`` the blocks, and the stacks."""

    outside: Sequence[Cell]
    stacks: Sequence[Stack]


def draw_map(document: Mapping[str, Any]) -> TensorMap:
    """Place every tensor of an audit's document, in the order in which the file has them, and every missing weight."""
    outside: list[Cell] = []
    stacks: dict[str, dict[int, dict[str, Cell]]] = {}
    for cell in _cells(document):
        match = BLOCK.fullmatch(cell.name)
        layer = stacks.setdefault(match[1] or "", {}).setdefault(int(match[2]), {}) if match else {}
        # A name that is there twice must not hide its namesake.
        if match is None or match[3] in layer:
            outside.append(cell)
        else:
            layer[match[3]] = cell
    drawn = []
    for name, layers in stacks.items():
        kinds = list(dict.fromkeys(kind for layer in layers.values() for kind in layer))
        if len(kinds) * len(layers) > SPARSE * sum(map(len, layers.values())):
            outside += [cell for layer in layers.values() for cell in layer.values()]
            continue
        rows = {number: [layers[number].get(kind) for kind in kinds] for number in sorted(layers)}
        drawn.append(Stack(name, [_short(kind) for kind in kinds], rows))
    return TensorMap(outside, drawn)


def _cells(document: Mapping[str, Any]) -> list[Cell]:
    found = [
        Cell(number, tensor["name"], _short(tensor["name"]), tensor["verdict"], tensor)
        for number, tensor in enumerate(document["tensors"])
    ]
    return found + [Cell(None, name, _short(name), MISSING, None) for name in document["missing"]]


def _short(name: str) -> str:
    """What nearly every name ends in says nothing; a bias does."""
    return name.removesuffix(".weight") or name
