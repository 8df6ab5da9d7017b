"""The second question: what a quant was made with. Its mix of types, and its importance matrix.

A mix that llama-quantize makes by its options is as honest as one that it chooses by itself, so it is a fact with a
command, never evidence. Evidence is only what the file says of itself and what its own bytes deny.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from requant.audit.imatrix import HashedImatrix
from requant.audit.metadata import FILE_TYPE, Grade, MetadataFinding
from requant.audit.status import Mix
from requant.formats.ggml import PLAIN, GGMLType, ValueType
from requant.formats.gguf import Header, Tensor
from requant.formats.gguf_values import shown
from requant.ground.errors import UnsupportedError
from requant.ground.exit_codes import ExitCode
from requant.quantization.mix import FALLBACKS, FILE_TYPES, OLDER_FALLBACKS, Model, expected_types, fitting

LAYER = re.compile(r"blk\.\d+\.(.+)")
LEAST_BITS = 0.9
"""Of the bits that a name promises, what a custom mix has at least: mixes that spare single tensors have more."""
NAMES = {file_type.name: number for number, file_type in FILE_TYPES.items()}
NAMED = re.compile(rf"(?<![A-Z0-9])({'|'.join(sorted(NAMES, key=len, reverse=True))})(?![A-Z0-9])", re.IGNORECASE)
TOP = {"token_embd.weight": "--token-embedding-type", "output.weight": "--output-tensor-type"}

Source = Mapping[str, tuple[tuple[int, ...], GGMLType]]


@dataclass(frozen=True)
class Made:
    """What a quant was made of, and the quant: all that its mix follows from.

    ``tensors`` are the quant's, ``source`` shape and type of each weight before. ``label`` is general.file_type,
    ``name`` the file's; ``imatrix`` says whether an importance matrix was given.
    """

    tensors: Sequence[Tensor]
    source: Source
    model: Model
    label: int | None
    name: str
    imatrix: bool


@dataclass(frozen=True)
class RecipeAnswer:
    """What it was made with.

    ``mix`` is the stock mix that the types are those of, or the one that ``command``, which makes a custom mix, starts
    from; ``None`` where none is known. ``bits`` are those of a weight of the matrices, ``stock_bits`` what the stock
    mix has. ``findings`` are what the file says of its making and is not so, or could not be looked at.
    """

    status: Mix
    sentence: str
    mix: str | None = None
    bits: float = 0.0
    stock_bits: float | None = None
    command: tuple[str, ...] = ()
    imatrix: HashedImatrix | None = None
    findings: tuple[MetadataFinding, ...] = ()


def answer_mix(made: Made) -> RecipeAnswer:
    """Whose types has it: those of its label's stock mix, of another one, or a custom mix?"""
    found = {tensor.name: tensor.type for tensor in made.tensors}
    bits = bits_per_weight((tensor.shape, tensor.type) for tensor in made.tensors)
    stock, reason = _stock_mixes(made)
    equal = [number for number, choices in stock.items() if any(_differing(found, choice) == [] for choice in choices)]
    contradictions = tuple(_contradictions(made, equal, bits))
    if made.label in equal or (made.label is None and equal):
        number = made.label if made.label in equal else equal[0]
        name = FILE_TYPES[number].name
        said = "" if made.label is not None else ", which the header does not say"
        answer = RecipeAnswer(Mix.STOCK, f"the types are those of the stock mix {name}{said}", name, bits, bits)
    elif not stock:
        answer = RecipeAnswer(Mix.UNCHECKED, f"the types could not be compared with a stock mix: {reason}", bits=bits)
    else:
        answer = _custom(made, found, stock, bits)
    return replace(answer, findings=contradictions)


def about_label(header: Header) -> list[MetadataFinding]:
    """A general.file_type that says nothing: of another kind than llama-quantize writes, or a number without a mix."""
    field = header.metadata.get(FILE_TYPE)
    known = field is None or (field.type is ValueType.UINT32 and field.value in FILE_TYPES)
    if field is None or known:
        return []
    sentence = f"{FILE_TYPE} is a file type that requant does not know"
    return [MetadataFinding(FILE_TYPE, Grade.UNCHECKED, "(known)", shown(field), sentence)]


def with_findings(
    mix: RecipeAnswer, imatrix: HashedImatrix | None, findings: Sequence[MetadataFinding]
) -> RecipeAnswer:
    """The answer about a mix, with the importance matrix and all that its header says of both."""
    serious = [finding for finding in findings if finding.grade is Grade.SERIOUS]
    if serious:
        sentence = "; ".join(finding.sentence for finding in serious)
        return replace(mix, status=Mix.CONTRADICTED, sentence=sentence, imatrix=imatrix, findings=tuple(findings))
    if mix.status.exit_code is ExitCode.OK and any(finding.grade is Grade.UNCHECKED for finding in findings):
        key = next(finding for finding in findings if finding.grade is Grade.UNCHECKED)
        sentence = f"{mix.sentence}; {key.sentence}"
        return replace(mix, status=Mix.UNCHECKED, sentence=sentence, imatrix=imatrix, findings=tuple(findings))
    return replace(mix, imatrix=imatrix, findings=tuple(findings))


def bits_per_weight(tensors: Iterable[tuple[tuple[int, ...], GGMLType]]) -> float:
    """Bits of a weight on the average of all matrices; 0 where there is none."""
    matrices = [(prod(shape), kind) for shape, kind in tensors if len(shape) > 1]
    count = sum(weights for weights, _ in matrices)
    return sum(weights * 8 * kind.type_size / kind.block_size for weights, kind in matrices) / count if count else 0.0


def _stock_mixes(made: Made) -> tuple[dict[int, list[dict[str, GGMLType]]], str]:
    """What every file type's mix would have given, by both versions' fallbacks; and why there is none, if so."""
    found: dict[int, list[dict[str, GGMLType]]] = {}
    reason = ""
    for number in FILE_TYPES:
        try:
            found[number] = [
                expected_types(number, made.source, made.model, made.imatrix, rules)
                for rules in (FALLBACKS, OLDER_FALLBACKS)
            ]
        except UnsupportedError as error:
            reason = str(error)
    return found, reason


def _differing(found: Mapping[str, GGMLType], choice: Mapping[str, GGMLType]) -> list[str]:
    return [name for name, kind in found.items() if name in choice and choice[name] is not kind]


def _custom(
    made: Made, found: Mapping[str, GGMLType], stock: Mapping[int, list[dict[str, GGMLType]]], bits: float
) -> RecipeAnswer:
    """A mix by options, told from the label's stock mix or, without one, from that which differs least."""
    number = made.label if made.label in stock else None
    if number is None:
        number = min(stock, key=lambda each: min(len(_differing(found, choice)) for choice in stock[each]))
    choice = min(stock[number], key=lambda each: len(_differing(found, each)))
    differing = _differing(found, choice)
    name = FILE_TYPES[number].name
    shapes = {tensor.name: tensor.shape for tensor in made.tensors}
    stock_bits = bits_per_weight((shapes[each], choice[each]) for each in found if each in choice)
    sentence = (
        f"a custom mix: {len(differing):,} of {len(found):,} tensors have other types than {name} gives them "
        f"({bits:.2f} bits per weight, {name} has {stock_bits:.2f})"
    )
    return RecipeAnswer(
        Mix.CUSTOM, sentence, name, bits, stock_bits, _options(found, choice, differing, made.imatrix, name)
    )


def _options(
    found: Mapping[str, GGMLType], choice: Mapping[str, GGMLType], differing: Sequence[str], imatrix: bool, name: str
) -> tuple[str, ...]:
    """The command that makes such a mix.

    Where one layer of a kind is named, llama-quantize no longer counts it and may choose otherwise for those after it
    (``llama_tensor_get_type``). So a kind that differs anywhere is named layer by layer, or as a whole.
    """
    words: list[str] = []
    kinds = dict.fromkeys(_kind(each) for each in differing)
    for kind in kinds:
        members = [each for each in found if _kind(each) == kind and each in choice]
        types = Counter(found[each] for each in members)
        if kind in TOP:
            words += [TOP[kind], found[kind].name.lower()]
        elif len(types) == 1:
            words += ["--tensor-type", rf"^blk\.[0-9]+\.{re.escape(kind)}$={found[members[0]].name.lower()}"]
        else:
            for each in members:
                words += ["--tensor-type", f"^{re.escape(each)}$={found[each].name.lower()}"]
    matrix = ("--imatrix", "imatrix.gguf") if imatrix else ()
    return ("llama-quantize", *matrix, *words, "weights.gguf", "quant.gguf", name)


def _kind(name: str) -> str:
    """A tensor's name without its layer."""
    match = LAYER.fullmatch(name)
    return match[1] if match else name


def _contradictions(made: Made, equal: Sequence[int], bits: float) -> Iterable[MetadataFinding]:
    """What label and file name say, and the tensors deny."""
    matrices = {tensor.type for tensor in made.tensors if len(tensor.shape) > 1 and min(tensor.shape[:2]) > 1}
    columns = {tensor.shape[0] for tensor in made.tensors if len(tensor.shape) > 1}
    actual = ", ".join(sorted(kind.name for kind in matrices)) or "no matrices"
    named = NAMED.findall(made.name)
    claims = {FILE_TYPE: made.label, "file name": NAMES[named[-1].upper()] if named else None}
    for key, number in claims.items():
        if number is None or number not in FILE_TYPES:
            continue
        file_type = FILE_TYPES[number]
        fits = {fitting(file_type.base, width, rules) for width in columns for rules in (FALLBACKS, OLDER_FALLBACKS)}
        plain = file_type.base in PLAIN
        others = [FILE_TYPES[each].name for each in equal]
        least = LEAST_BITS * 8 * file_type.base.type_size / file_type.base.block_size
        if number in equal:
            continue
        if (plain and not matrices <= set(PLAIN)) or (not plain and not matrices & fits):
            why = f"says {file_type.name}, and no matrix has that type: they are {actual}"
        elif key == FILE_TYPE and others:
            why = f"says {file_type.name}, and the types are exactly those of {others[0]}"
        elif not plain and bits < least:
            why = f"says {file_type.name}, and the matrices have {bits:.2f} bits per weight, fewer than such a mix"
        else:
            continue
        label = "the file name" if key == "file name" else key
        yield MetadataFinding(key, Grade.SERIOUS, file_type.name, actual, f"{label} {why}")
