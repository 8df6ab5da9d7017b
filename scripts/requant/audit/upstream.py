"""Weights of a model that requant does not know: upstream's converter is asked what it would make of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from requant.conversion.asked import layout_of, small_values
from requant.conversion.files import DESCRIPTION, checkpoint_files
from requant.conversion.metadata import TEXT_LIMIT
from requant.conversion.sources import Layout
from requant.conversion.writer import COMMIT
from requant.documents.pins import TABLE, read_pins
from requant.formats.gguf import Header
from requant.formats.ranged import read_whole
from requant.formats.safetensors import INDEX, SUFFIX, Checkpoint
from requant.ground.errors import UnsupportedError
from requant.places.place import Place
from requant.toolchain.converter import ask_converter, converter_python
from requant.toolchain.quantizers import kept_tree

ADVICE = "upstream's converter may: give --converter, which installs what it needs (torch, 1.5 GB on the disk) once"
NEXT = ".nextn"
"""In the names of the heads that predict further tokens; publishers convert them or leave them out."""


CLASSIFIER = "cls.output.weight"
"""What a model that ranks texts has in place of an output layer."""
MODEL, RERANKER = "model", "qwen3-reranker"
"""What the checkpoint's folder is called. Where there is no description, upstream knows Qwen3's rerankers by that."""


@dataclass(frozen=True)
class Upstream:
    """How upstream's converter may be asked: whether it may be installed for it, and what it shall convert.

    ``mtp`` is of heads that predict more tokens, ``ranks`` of a language model as one that ranks texts.
    """

    install: bool = False
    mtp: bool = True
    ranks: bool = False

    @classmethod
    def like(cls, header: Header | None, install: bool = False) -> Self:
        """As a quant was converted, if there is one."""
        if header is None:
            return cls(install)
        return cls(install, mentions_next(header), any(tensor.name == CLASSIFIER for tensor in header.tensors))


@dataclass(frozen=True)
class Conversion:
    """What upstream would make of a checkpoint; ``header`` holds the metadata, or ``unknown`` says why nobody knows."""

    layout: Layout
    header: Header | None
    unknown: str | None


def mentions_next(header: Header) -> bool:
    """Whether a quant has heads that predict further tokens, or says how many."""
    return any(NEXT in tensor.name for tensor in header.tensors) or any(NEXT in key for key in header.metadata)


def ask(upstream: Upstream, place: Place, checkpoint: Checkpoint, reason: str) -> Conversion:
    """Ask upstream's converter; ``reason`` is why requant does not know by itself.

    Raises:
        UnsupportedError: when there is no converter to ask, or it does not know such a model either.
        FormatError, SourceError: when the files cannot be read or had.
        ToolError: when it cannot be installed.
    """
    python = converter_python(upstream.install)
    if python is None:
        raise UnsupportedError(f"{reason}; {ADVICE}")
    listed = {*checkpoint_files(place.names), DESCRIPTION}
    texts = [name for name in place.names if name in listed and name != INDEX and not name.endswith(SUFFIX)]
    files = {name: read_whole(place.open(name), TEXT_LIMIT, "a text of a checkpoint") for name in texts}
    values = dict(small_values(checkpoint))
    folder = RERANKER if upstream.ranks else MODEL
    said = ask_converter(python, _tree(), files, checkpoint.tensors.values(), values, upstream.mtp, folder)
    return Conversion(layout_of(checkpoint, said.tensors, said.arrays, said.scales), said.header, said.unknown)


def _tree() -> Path:
    """The llama.cpp whose converter is known to be askable."""
    [pin] = [pin for pin in read_pins(TABLE, "the pin table").toolchains.values() if pin.commit == COMMIT]
    return kept_tree(pin)
