"""What a label or a file name promises of a mix, held against the types that are there.

A label is what llama-quantize was asked for, and its options may leave few tensors of that type: it is false only
where none has it, or where the types are exactly another mix's and no --pure makes them. A name is what a person
chooses by, so it must keep its bits too, inside the blocks: embedding and output layer have options of their own. But
of several words in it one may be true, words that llama-quantize does not know (Q4_K_XL, a bare q4) promise bits alone,
and who gives more bits than he promises deceives nobody.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from requant.audit.metadata.comparison import FILE_TYPE, Grade, MetadataFinding
from requant.formats.ggml import PLAIN, GGMLType
from requant.formats.gguf import Tensor
from requant.quantization.file_types import FILE_TYPES
from requant.quantization.mix import VERSIONS, fitting

FILE_NAME = "file name"
LEAST_BITS = 0.85
"""Of the bits that a name promises, what there must be: the next lower type has less, sparing some tensors has more."""
NUMBERS = {file_type.name: number for number, file_type in FILE_TYPES.items()}
BASES = {file_type.base.name: file_type.base for file_type in FILE_TYPES.values()}
SPELLED = {word.replace("_", ""): word for word in (*NUMBERS, *BASES)} | {"FP16": "F16", "FP32": "F32"}
"""Every word without what stands between its parts, which people leave out or write otherwise: Q6K, q6-k, fp16."""
APART = re.compile(r"_(?![0-9])")
WORDS = "|".join(
    sorted({APART.sub("[-_]?", word) for word in (*NUMBERS, *BASES, "FP16", "FP32")}, key=len, reverse=True)
)
BARE = {
    "Q1": GGMLType.Q1_0, "Q2": GGMLType.IQ2_XXS, "Q3": GGMLType.IQ3_XXS, "Q4": GGMLType.IQ4_XS, "Q5": GGMLType.Q5_K,
    "Q6": GGMLType.Q6_K, "Q8": GGMLType.Q8_0, "IQ1": GGMLType.IQ1_S, "IQ2": GGMLType.IQ2_XXS,
    "IQ3": GGMLType.IQ3_XXS, "IQ4": GGMLType.IQ4_XS,
}  # fmt: skip
"""Words that promise bits alone: by the type of so many that has the fewest."""
NAMED = re.compile(
    rf"(?<![A-Z0-9])(?:({WORDS})(_X*[SML]|(?<=K)[-_]?X*[SML])?(?![A-Z0-9])"
    rf"|(?P<bare>{'|'.join(BARE)})(?![A-Z0-9]|[._][0-9]|_[^0-9._-]{{1,3}}(?![A-Z])))",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Promise:
    """A mix as it is named; ``number`` is ``None`` where llama-quantize knows none of that name."""

    word: str
    number: int | None
    base: GGMLType

    @property
    def bits(self) -> float:
        """Of a weight in a tensor of the base type."""
        return 8 * self.base.type_size / self.base.block_size


@dataclass(frozen=True)
class Matrices:
    """What is there: the types and row lengths of the matrices, and the bits of a weight inside the blocks.

    ``equal`` are the file types whose stock mix has exactly these types, ``stock`` what each known one would have given
    this model. Of ``kept`` types are the matrices that the weights hold so, which are none of the others; ``inner`` are
    the types inside the blocks.
    """

    types: frozenset[GGMLType]
    columns: frozenset[int]
    bits: float
    equal: Sequence[int]
    stock: Mapping[int, "StockMix"]
    kept: frozenset[GGMLType]
    inner: frozenset[GGMLType]

    @property
    def shown(self) -> str:
        """The types, for people."""
        return ", ".join(sorted(kind.name for kind in self.types))


@dataclass(frozen=True)
class StockMix:
    """What a file type gives a model: the types inside its blocks, and bits of a weight on the average."""

    types: frozenset[GGMLType]
    bits: float


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether it has several rows: llama-quantize leaves all others as they are."""
    return any(length > 1 for length in shape[1:])


def bits_per_weight(tensors: Iterable[tuple[tuple[int, ...], GGMLType]]) -> float:
    """Bits of a weight on the average of all matrices; 0 where there is none."""
    matrices = [(prod(shape), kind) for shape, kind in tensors if is_matrix(shape)]
    count = sum(weights for weights, _ in matrices)
    return sum(weights * 8 * kind.type_size / kind.block_size for weights, kind in matrices) / count if count else 0.0


def at_most_bits(tensors: Sequence[Tensor]) -> float:
    """The same by the bytes that they take, also where it is not known where a tensor ends; 0 where there is none."""
    matrices = [tensor for tensor in tensors if is_matrix(tensor.shape)]
    weights = sum(prod(tensor.shape) for tensor in matrices)
    return 8 * sum(tensor.nbytes for tensor in matrices) / weights if weights else 0.0


def promised(name: str) -> list[Promise]:
    """What a file name says of the mix.

    >>> [promise.word for promise in promised("Model-BF16-UD-Q4_K_XL.gguf")]
    ['BF16', 'Q4_K_XL']
    >>> [promise.word for promise in promised("model-fp16-q6-k.Q4KM.gguf")]
    ['F16', 'Q6_K', 'Q4_K_M']
    >>> [promise.word for promise in promised("model-fp16-q4.gguf")]
    ['F16', 'Q4']
    """
    found = []
    for match in NAMED.finditer(name):
        if match["bare"]:
            found.append(Promise(match["bare"].upper(), None, BARE[match["bare"].upper()]))
            continue
        base = SPELLED[re.sub("[-_]", "", match[1]).upper()]
        word = base + (f"_{match[2].upper().lstrip('-_')}" if match[2] else "")
        number = NUMBERS.get(word)
        kind = FILE_TYPES[NUMBERS[base]].base if base in NUMBERS else BASES[base]
        found.append(Promise(word, number, kind))
    return found


def hold(label: int | None, name: str, matrices: Matrices) -> Iterator[MetadataFinding]:
    """Say which promises are broken: serious, or harmless where one promises less than there is.

    Args:
        label: the number in general.file_type.
        name: the file's.
        matrices: what is there.
    """
    if not matrices.types:
        return
    if label in FILE_TYPES:
        promise = Promise(FILE_TYPES[label].name, label, FILE_TYPES[label].base)
        if why := _broken(promise, matrices):
            yield _judged(FILE_TYPE, f"{FILE_TYPE} says {promise.word}", promise, why, label, matrices)
    promises = promised(name)
    reasons = [_broken(promise, matrices) or _too_few(promise, matrices) for promise in promises]
    if not promises or not all(reasons):
        return
    # Beside a quant's name that of an unquantized type is the source's.
    last = max(range(len(promises)), key=lambda place: (promises[place].base not in PLAIN, place))
    said = f"the file name says {promises[last].word}"
    yield _judged(FILE_NAME, said, promises[last], reasons[last] or "", label, matrices)


def _judged(key: str, said: str, promise: Promise, why: str, label: int | None, matrices: Matrices) -> MetadataFinding:
    """How bad a broken promise is: evidence where there is less than was promised, unless options give just that."""
    known = matrices.stock.get(promise.number) if promise.number is not None else None
    wanted = known.bits if known else promise.bits
    grade = Grade.SERIOUS if matrices.bits < wanted else Grade.HARMLESS
    if key == FILE_TYPE and grade is Grade.HARMLESS and LEAST_BITS * matrices.bits < wanted:
        # Hardly more bits may serve worse: a Q4_1 is no Q4_K_M.
        grade = Grade.UNCHECKED
    # What llama-quantize was asked for the label tells: a name alone could be anybody's.
    if label == promise.number is not None and _by_options(promise, matrices):
        why = f"by options such as --pure it equals {FILE_TYPES[matrices.equal[0]].name}"
        grade = Grade.UNCHECKED if matrices.bits < LEAST_BITS * wanted else Grade.HARMLESS
    return MetadataFinding(key, grade, promise.word, matrices.shown, f"{said}, but {why}")


def _fits(promise: Promise, matrices: Matrices) -> set[GGMLType]:
    """The type of a mix, and what takes its place where rows are odd."""
    return {fitting(promise.base, width, version) for width in matrices.columns for version in VERSIONS}


def _by_options(promise: Promise, matrices: Matrices) -> bool:
    """Whether --pure gives these types inside the blocks: the file type's own, where another mix has just that too."""
    return bool(matrices.equal and matrices.inner) and matrices.inner <= _fits(promise, matrices)


def _broken(promise: Promise, matrices: Matrices) -> str | None:
    """Why a promise is not kept; nothing where it is."""
    if promise.number in matrices.equal or promise.base in matrices.kept:
        return None
    if promise.number is not None:
        unquantized = promise.base in PLAIN and matrices.types <= set(PLAIN)
        given = matrices.stock[promise.number].types if promise.number in matrices.stock else frozenset()
        if not matrices.types & (given | _fits(promise, matrices)) and not unquantized:
            return f"no matrix has a type of that mix: they are {matrices.shown}"
        if matrices.equal:
            return f"the types are exactly those of {FILE_TYPES[matrices.equal[0]].name}"
    return None


def _too_few(promise: Promise, matrices: Matrices) -> str | None:
    """Whether there are fewer bits than one would take a name for."""
    if promise.number in matrices.equal or matrices.bits >= LEAST_BITS * promise.bits:
        return None
    base = f"{promise.base.name} has {promise.bits:.2f}"
    return f"inside the blocks the matrices have {matrices.bits:.2f} bits per weight, {base}"
