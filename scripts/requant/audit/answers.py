"""The four questions, each answered by one function: weights, recipe, metadata, coverage.

What they are asked of are the opened things: the subject, the named weights, and the importance matrix, if there is
one. No answer knows of another, but that the weights are compared as far as the coverage goes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from secrets import randbits

from requant.audit.imatrix import HashedImatrix
from requant.audit.metadata import Grade, MetadataFinding, NamedImatrix, compare_metadata
from requant.audit.named_weights import NamedWeights
from requant.audit.sample import draw
from requant.audit.subject import Subject
from requant.audit.sweep import Material, Sweep, audit_tensors
from requant.documents.file_names import IMATRIX
from requant.documents.pins import ToolchainPin
from requant.formats.ggml import Arithmetic, Floats, Indices
from requant.formats.gguf import Header, Tensor
from requant.ground.errors import UnsupportedError
from requant.ground.progress import progress
from requant.places.remote import JOBS
from requant.quantization.mix import FALLBACKS, OLDER_FALLBACKS, expected_types, file_type_name
from requant.quantization.quantizer import Quantizer
from requant.toolchain.quantizers import open_quantizer


@dataclass(frozen=True, eq=False)
class Coverage:
    """Which rows of the matrices are read: all where there is no ``seed``, else those that it draws.

    ``selected`` are these by tensor, ``None`` for all; vectors are always read whole, and not counted.
    """

    seed: int | None
    selected: Mapping[str, Indices] | None
    rows_read: int
    rows_in_all: int

    def weights_of(self, tensor: Tensor) -> int:
        """How many of a tensor's weights are read."""
        columns, *rest = tensor.shape
        if self.selected is None or not rest:
            return columns * prod(rest)
        return columns * len(self.selected.get(tensor.name, ()))


@dataclass(frozen=True)
class RecipeAnswer:
    """What it was made with: the importance matrix, and what contradicts it; tensors whose type is not the mix's."""

    imatrix: HashedImatrix | None
    contradictions: tuple[MetadataFinding, ...]
    types: tuple[MetadataFinding, ...]


@dataclass(frozen=True)
class MetadataAnswer:
    """What there is to say about the keys of the header; ``unchecked`` is why nothing could be compared."""

    findings: tuple[MetadataFinding, ...]
    unchecked: str | None = None


def cover(header: Header, count: int | None, seed: int | None) -> Coverage:
    """Decide what is read: ``count`` rows that ``seed`` draws, a random one if ``None``; without a count everything."""
    rows = {tensor.name: prod(tensor.shape[1:]) for tensor in header.tensors if len(tensor.shape) > 1}
    in_all = sum(rows.values())
    if count is None:
        return Coverage(None, None, in_all, in_all)
    seed = randbits(64) if seed is None else seed
    selected = draw(rows, count, seed)
    return Coverage(seed, selected, sum(map(len, selected.values())), in_all)


def answer_recipe(subject: Subject, weights: NamedWeights, imatrix: HashedImatrix | None) -> RecipeAnswer:
    """What was it made with: is the importance matrix the one it names, has each tensor the type of its mix?"""
    contradictions = []
    if imatrix and subject.manifest:
        wanted = subject.manifest.imatrix.file.sha256
        if imatrix.sha256 != wanted:
            sentence = "the importance matrix is not the one that the manifest names"
            contradictions.append(MetadataFinding(IMATRIX, Grade.SERIOUS, wanted, imatrix.sha256, sentence))
    types = _compare_types(subject, weights, imatrix is not None or subject.with_imatrix)
    return RecipeAnswer(imatrix, tuple(contradictions), tuple(types))


def _compare_types(subject: Subject, weights: NamedWeights, with_imatrix: bool) -> list[MetadataFinding]:
    """Tensors of another type than the mix of the file's type gives them; either version's fallbacks are right."""
    number = subject.inferred.file_type
    if number is None:
        sentence = "general.file_type is absent, so the types of the tensors cannot be checked"
        return [MetadataFinding("general.file_type", Grade.UNCHECKED, "(unknown)", "(absent)", sentence)]
    mix = file_type_name(number)
    tensors = {name: (shape, weights.types[name]) for name, shape in weights.tensors.shapes.items()}
    try:
        choices = [
            expected_types(number, tensors, weights.model, with_imatrix, fallbacks)
            for fallbacks in (FALLBACKS, OLDER_FALLBACKS)
        ]
    except UnsupportedError as error:
        return [MetadataFinding("types", Grade.UNCHECKED, "(unknown)", mix, str(error))]
    findings = []
    for tensor in subject.header.tensors:
        name, found = tensor.name, tensor.type
        if name in choices[0] and all(found is not choice[name] for choice in choices):
            wanted = choices[0][name].name
            sentence = f"{name} is {found.name}, the mix {mix} makes it {wanted}"
            findings.append(MetadataFinding(name, Grade.SERIOUS, wanted, found.name, sentence))
    return findings


def answer_metadata(subject: Subject, weights: NamedWeights, imatrix: HashedImatrix | None) -> MetadataAnswer:
    """Does the header say what the converter writes for these weights?"""
    if weights.expected is None:
        return MetadataAnswer((), f"the metadata was not checked: {weights.unknown}")
    content = imatrix and imatrix.content
    named = NamedImatrix(len(content.entries), content.chunk_count) if content else None
    return MetadataAnswer(compare_metadata(subject.header, weights.expected, named).findings)


def answer_weights(
    subject: Subject, weights: NamedWeights, imatrix: HashedImatrix | None, coverage: Coverage,
    pin: ToolchainPin, jobs: int | None,
) -> Sweep:  # fmt: skip
    """Does each tensor derive from the named weights, as far as is read; ``pin`` is the llama.cpp to derive with.

    Raises:
        FormatError, SourceError: when a file cannot be read.
        UnsupportedError: when it was made with an importance matrix of experts.
        ToolError: when an arithmetic cannot be had.
    """
    importances: Mapping[str, Floats] | None = {}
    if imatrix is not None:
        importances = imatrix.importances()
    elif subject.with_imatrix:
        importances = None
    material = Material(subject.file, subject.header, weights.tensors, importances, _opener(pin))
    jobs = jobs or (None if subject.place.is_local and weights.place.is_local else JOBS)
    total = sum(map(coverage.weights_of, subject.header.tensors))
    with progress(total, "comparing", "weights", scale=True) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        return audit_tensors(material, coverage.selected, jobs, advance)


def _opener(pin: ToolchainPin) -> Callable[[Arithmetic], Quantizer]:
    return cache(lambda arithmetic: open_quantizer(arithmetic, pin))
