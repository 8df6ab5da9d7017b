"""The second question: what a quant was made with. Its mix of types, and its importance matrix.

A mix that llama-quantize makes by its options is as honest as one that it chooses by itself, so it is a fact with a
command, never evidence. Evidence is only what the file says of itself and what its own bytes deny.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from requant.audit.metadata.comparison import FILE_TYPE, Grade, MetadataFinding
from requant.audit.recipe.command import TOP, Types, command_of, options_of
from requant.audit.recipe.imatrix import HashedImatrix
from requant.audit.recipe.promises import Matrices, StockMix, at_most_bits, bits_per_weight, hold, is_matrix
from requant.audit.recipe.sanity import Sanity
from requant.audit.status import Mix
from requant.formats.ggml import PLAIN, GGMLType, ValueType
from requant.formats.gguf import Header, Tensor
from requant.formats.gguf_values import shown
from requant.ground.errors import UnsupportedError
from requant.ground.exit_codes import ExitCode
from requant.ground.text import listed
from requant.quantization.file_types import FILE_TYPES, file_type_name
from requant.quantization.mix import NEED_IMATRIX, NEWER, Model, Version, expected_types, versions_for

MOST_SAID = 5
"""Sentences about one key that the answer holds; the findings have all."""

Source = Mapping[str, tuple[tuple[int, ...], GGMLType]]


@dataclass(frozen=True)
class Made:
    """What a quant was made of, and the quant: all that its mix follows from.

    ``tensors`` are the quant's, ``source`` shape and type of each weight before. ``label`` is general.file_type,
    ``name`` the file's; ``imatrix`` says whether an importance matrix was given, ``given`` are the options that
    kept some of its importances from the tensors.
    """

    tensors: Sequence[Tensor]
    source: Source
    model: Model
    label: int | None
    name: str
    imatrix: bool
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeAnswer:
    """What it was made with.

    ``mix`` is the stock mix that the types are those of, or the one that ``command``, which makes a custom mix, starts
    from; ``None`` where none is known. ``bits`` are those of a weight of the matrices, ``stock_bits`` what the stock
    mix has. ``imatrix`` is the importance matrix that it was made with, ``sanity`` how that looks. ``findings`` are
    what the file says of its making and is not so, or could not be looked at; ``allowed`` are the keys of those among
    them that the user lets pass.
    """

    status: Mix
    sentence: str
    mix: str | None = None
    bits: float = 0.0
    stock_bits: float | None = None
    command: tuple[str, ...] = ()
    imatrix: HashedImatrix | None = None
    sanity: Sanity | None = None
    findings: tuple[MetadataFinding, ...] = ()
    allowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Stock:
    """What each file type's mix would have given, by all versions, the newest first; and why others are not known."""

    mixes: Mapping[int, Mapping[Version, Types]]
    refused: Mapping[int, str]

    def equal(self, found: Types) -> list[int]:
        """The file types whose types these are."""
        return [number for number in self.mixes if self.versions(number, found)]

    def versions(self, number: int, found: Types) -> list[Version]:
        """The versions that give a file type just these types."""
        return [version for version, choice in self.mixes[number].items() if not differing(found, choice)]

    def fixed(self, name: str) -> bool:
        """Whether llama-quantize leaves this tensor as it is, whatever it is told."""
        kinds = (choice.get(name) for choices in self.mixes.values() for choice in choices.values())
        first = next(kinds, None)
        return all(kind is first for kind in kinds)

    def nearest(self, number: int, found: Types) -> Types:
        """Of a mix by all versions the one that differs least."""
        first, *others = self.mixes[number].values()
        return min((first, *others), key=lambda choice: len(differing(found, choice))) if others else first

    def newest(self, number: int) -> Types:
        """A mix as the newest version that knows it makes it."""
        return next(iter(self.mixes[number].values()))


def answer_mix(made: Made) -> RecipeAnswer:
    """Whose types has it: those of its label's stock mix, of another one, or a custom mix?"""
    found = {tensor.name: tensor.type for tensor in made.tensors}
    stock = _stock_mixes(made)
    equal = stock.equal(found)
    bits = bits_per_weight((tensor.shape, tensor.type) for tensor in made.tensors)
    foreign = [name for name, kind in found.items() if not kind.is_known]
    # Of these nobody knows how many bits they have.
    findings = () if foreign else tuple(hold(made.label, made.name, _promised(made, found, stock)))
    if foreign:
        are = "is of a type" if len(foreign) == 1 else "are of types"
        bits = at_most_bits(made.tensors)
        said = f"the types are not those of any stock mix, with at most {bits:.2f} bits per weight: {listed(foreign)}"
        answer = RecipeAnswer(Mix.UNCHECKED, f"{said} {are} that llama.cpp does not read", bits=bits)
    elif why := _why_unchecked(made, found, stock):
        said = f"the types were not compared with a stock mix, they have {bits:.2f} bits per weight: {why}"
        answer = RecipeAnswer(Mix.UNCHECKED, said, bits=bits)
    elif equal:
        answer = _stock(made, found, stock, equal, bits)
    else:
        answer = _custom(made, found, stock, bits)
    return replace(answer, findings=findings)


def about_label(header: Header) -> list[MetadataFinding]:
    """A general.file_type that says nothing: of another kind than llama-quantize writes, or a number without a mix."""
    field = header.metadata.get(FILE_TYPE)
    if field is None or (field.type is ValueType.UINT32 and field.value in FILE_TYPES):
        return []
    if field.type is ValueType.UINT32 and isinstance(field.value, int):
        why = f"says {file_type_name(field.value)}, a mix that requant does not know"
    else:
        why = f"is of the type {field.type.name}, not {ValueType.UINT32.name} as llama-quantize writes it"
    return [MetadataFinding(FILE_TYPE, Grade.UNCHECKED, "(known)", shown(field), f"{FILE_TYPE} {why}")]


def with_findings(
    mix: RecipeAnswer,
    imatrix: HashedImatrix | None,
    findings: Sequence[MetadataFinding],
    allowed: frozenset[str] = frozenset(),
) -> RecipeAnswer:
    """The answer about a mix, with the importance matrix and all that its header says of both."""
    lost = [finding for finding in findings if finding.grade is Grade.UNCHECKED]
    known = frozenset(finding.key for finding in lost) & allowed
    answer = replace(mix, imatrix=imatrix, findings=tuple(findings), allowed=known)
    if serious := [finding.sentence for finding in findings if finding.grade is Grade.SERIOUS]:
        return replace(answer, status=Mix.CONTRADICTED, sentence="; ".join(serious))
    # A name that promises less than there is stands in nobody's way, but is worth a word.
    said = [finding.sentence for finding in mix.findings if finding.grade is Grade.HARMLESS]
    if mix.sanity and mix.sanity.fact:
        said.append(mix.sanity.fact)
    if remaining := [finding for finding in lost if finding.key not in known]:
        keys = list(dict.fromkeys(finding.key for finding in remaining))
        if len(keys) == 1:
            said += [finding.sentence for finding in remaining[:MOST_SAID]]
        else:
            said.append(f"{listed(keys)} could not be checked")
    if known:
        said.append(f"{listed(sorted(known))} could not be checked, as was allowed")
    worse = mix.status.exit_code is ExitCode.OK and remaining
    status = Mix.UNCHECKED if worse else mix.status
    return replace(answer, status=status, sentence="; ".join([mix.sentence, *said]))


def differing(found: Types, choice: Types) -> list[str]:
    """The tensors whose types are others than ``choice`` gives them."""
    return [name for name, kind in found.items() if name in choice and choice[name] is not kind]


def _stock_mixes(made: Made) -> Stock:
    # Whoever has such types had an importance matrix, whether his file says so or not.
    given = made.imatrix or any(each.type in NEED_IMATRIX and each.name not in TOP for each in made.tensors)
    mixes: dict[int, dict[Version, Types]] = {}
    refused: dict[int, str] = {}
    for number, version in product(FILE_TYPES, versions_for(made.source)):
        try:
            choice = expected_types(number, made.source, made.model, given, version)
        except UnsupportedError as error:
            refused.setdefault(number, str(error))
        else:
            mixes.setdefault(number, {})[version] = choice
    return Stock(mixes, {number: why for number, why in refused.items() if number not in mixes})


def _stock(made: Made, found: Types, stock: Stock, equal: Sequence[int], bits: float) -> RecipeAnswer:
    """The mix of a file type; the label's, if that is among those with the same types."""
    number = made.label if made.label is not None and made.label in equal else equal[0]
    name = FILE_TYPES[number].name
    said = "" if NEWER in stock.versions(number, found) else ", as older versions of llama.cpp choose it"
    said += "" if made.label is not None else ", which the header does not say"
    command = command_of(name, (), made.imatrix, made.given) if made.given else ()
    return RecipeAnswer(Mix.STOCK, f"the types are those of the stock mix {name}{said}", name, bits, bits, command)


def _why_unchecked(made: Made, found: Types, stock: Stock) -> str | None:
    """Why nothing can be said of the mix; nothing where something can."""
    if not stock.mixes:
        return next(iter(stock.refused.values()))
    if not any(is_matrix(tensor.shape) and tensor.name in made.source for tensor in made.tensors):
        return "it has none of the weights' matrices"
    if odd := [name for name, kind in found.items() if name in made.source and _impossible(made, stock, name, kind)]:
        return f"llama-quantize, whatever its options, leaves {listed(odd)} in another type"
    return stock.refused.get(made.label) if made.label is not None else None


def _promised(made: Made, found: Types, stock: Stock) -> Matrices:
    """The matrices that label and name speak of.

    What the weights hold in few bits already nobody can give more. Embedding and output layer have options of their
    own, and are most of a small model: bits are those inside the blocks.
    """
    own = [tensor for tensor in made.tensors if not _copied(made, tensor)]
    inner = [tensor for tensor in own if tensor.name not in TOP] or own
    shapes = {tensor.name: tensor.shape for tensor in inner}
    given = {number: _sum_up(stock.nearest(number, found), shapes) for number in stock.mixes}
    rows = [tensor for tensor in own if is_matrix(tensor.shape)]
    return Matrices(
        types=frozenset(tensor.type for tensor in rows),
        columns=frozenset(tensor.shape[0] for tensor in rows),
        bits=bits_per_weight((tensor.shape, tensor.type) for tensor in inner),
        equal=stock.equal({tensor.name: tensor.type for tensor in own}),
        stock=given,
        kept=frozenset(tensor.type for tensor in made.tensors if _copied(made, tensor)),
        inner=frozenset(tensor.type for tensor in inner if is_matrix(tensor.shape)),
    )


def _copied(made: Made, tensor: Tensor) -> bool:
    """Whether a tensor is of few bits because the weights are, as the experts of gpt-oss."""
    return tensor.type not in PLAIN and tensor.name in made.source and made.source[tensor.name][1] is tensor.type


def _impossible(made: Made, stock: Stock, name: str, kind: GGMLType) -> bool:
    """Whether no option gives a tensor this type: norms, biases and the like are not quantized."""
    return stock.fixed(name) and kind is not made.source[name][1]


def _custom(made: Made, found: Types, stock: Stock, bits: float) -> RecipeAnswer:
    """A mix by options, told from the label's stock mix or, without one, from that which differs least."""
    number = _start(made, found, stock)
    choice = stock.nearest(number, found)
    others = differing(found, choice)
    name = FILE_TYPES[number].name
    usual = _sum_up(choice, {tensor.name: tensor.shape for tensor in made.tensors}).bits
    count = sum(is_matrix(tensor.shape) for tensor in made.tensors)
    have, them = ("has another type", "it") if len(others) == 1 else ("have other types", "them")
    sentence = (
        f"a custom mix: {len(others):,} of {count:,} matrices {have} than {name} gives {them} "
        f"({bits:.2f} bits per weight, {name} has {usual:.2f})"
    )
    free = [each for each in found if each in choice and not stock.fixed(each)]
    options = options_of(found, differing(found, stock.newest(number)), free)
    command = command_of(name, options, made.imatrix, made.given)
    return RecipeAnswer(Mix.CUSTOM, sentence, name, bits, usual, command)


def _start(made: Made, found: Types, stock: Stock) -> int:
    """The file type from which a command starts: llama-quantize passes over --tensor-type for unquantized ones."""

    def usable(number: int) -> bool:
        plain = FILE_TYPES[number].base in PLAIN
        return not plain or set(differing(found, stock.nearest(number, found))) <= TOP.keys()

    if made.label is not None and made.label in stock.mixes and usable(made.label):
        return made.label
    return min(filter(usable, stock.mixes), key=lambda each: len(differing(found, stock.nearest(each, found))))


def _sum_up(choice: Types, shapes: Mapping[str, tuple[int, ...]]) -> StockMix:
    matrices = {name: kind for name, kind in choice.items() if name in shapes and is_matrix(shapes[name])}
    inside = frozenset(kind for name, kind in matrices.items() if name not in TOP)
    return StockMix(inside, bits_per_weight((shapes[name], kind) for name, kind in matrices.items()))
