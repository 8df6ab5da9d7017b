"""What differs between A and B, whatever they are, for people and as JSON.

They are told apart by what they hold: importance matrices, other GGUF files, release folders, results of ``requant
evaluate``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from requant.difference import imatrices, imatrix_effect, results
from requant.difference.ggufs import Change, GGUFDiff, Open, TensorDiff, diff_gguf
from requant.difference.imatrices import Comparison
from requant.difference.imatrix_effect import QuantComparison, Trial
from requant.difference.releases import FileDiff, ReleaseDiff, diff_releases
from requant.difference.results import Pair
from requant.documents.pins import TABLE, read_pins
from requant.documents.reports import DIFF
from requant.formats.ggml import Arithmetic
from requant.formats.gguf import read_header
from requant.formats.imatrix import is_imatrix, starts_as_legacy
from requant.ground.digests import Digest
from requant.ground.errors import FormatError, RecipeError, naming
from requant.ground.exit_codes import ExitCode
from requant.ground.text import printable, table
from requant.quantization.quantizer import Quantizer
from requant.toolchain.quantizers import open_quantizer

MOST_SHOWN = 40
"""Lines of one kind that people are shown; the JSON holds all."""


class Kind(StrEnum):
    """What can be compared with another of its kind, as messages call it."""

    RELEASE = "a release folder"
    IMATRIX = "an importance matrix"
    GGUF = "a GGUF file"
    RESULTS = "a results file"


@dataclass(frozen=True)
class Diff:
    """A and B, as they were named, and what differs between them; ``quants`` is what two matrices make of a model."""

    a: Path
    b: Path
    found: GGUFDiff | ReleaseDiff | Comparison | Pair
    quants: QuantComparison | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs that matters: what that means, the four kinds of ``found`` say."""
        return self.found.same

    @property
    def exit_code(self) -> ExitCode:
        """That of the comparison."""
        return ExitCode.OK if self.same else ExitCode.AGAINST


def kind_of(path: Path) -> Kind:
    """What a path holds: results are JSON, of a GGUF the header says it.

    Raises:
        FormatError: when it is none of these, or cannot be read.
    """
    if path.is_dir():
        return Kind.RELEASE
    if not path.is_file():
        raise FormatError(f"{path} is neither a file nor a folder: check the path")
    with path.open("rb") as file:
        if file.read(1) == b"{":
            return Kind.RESULTS
    if starts_as_legacy(path):
        return Kind.IMATRIX
    return Kind.IMATRIX if is_imatrix(read_header(path)) else Kind.GGUF


def trial_of(model: Path | None, quant: str | None, tool: Path | None) -> Trial | None:
    """What the options ``--quantize``, ``--type`` and ``--tool`` ask for.

    Raises:
        RecipeError: when only some of them are given.
    """
    if model is None and quant is None and tool is None:
        return None
    if model is None or quant is None or tool is None:
        raise RecipeError("--quantize, --type and --tool belong together: give all three or none")
    return Trial(model, quant, tool)


def pinned_quantizer() -> Quantizer:
    """The strict arithmetic of the pin table's first llama.cpp, to dequantize with; raises as ``open_quantizer``."""
    return open_quantizer(Arithmetic.STRICT, next(iter(read_pins(TABLE, "the pin table").toolchains.values())), work=0)


def diff(a: Path, b: Path, quantizer: Open = pinned_quantizer, trial: Trial | None = None) -> Diff:
    """Find what differs between two of a kind.

    Args:
        a: a GGUF file, importance matrices among them, a folder with a manifest, or results of ``requant evaluate``.
        b: the same kind of thing.
        quantizer: gives what dequantizes; called only where a quantized tensor differs.
        trial: a model to quantize with two importance matrices; needs room for both quants in the current folder.

    Raises:
        FormatError: when one of them cannot be read (which of them is said), they are not of one kind, or what they
            hold cannot be compared.
        UnsupportedError: when a manifest has a schema that this version does not know.
        RecipeError: when there is a ``trial`` but they are no importance matrices, or as ``compare_quants``.
        RequantError: what ``quantizer`` raises for two files; between folders it becomes part of the outcome.
    """
    kinds = []
    for label, path in (("A", a), ("B", b)):
        with naming(label, path):
            kinds.append(kind_of(path))
    if kinds[0] is not kinds[1]:
        raise FormatError(f"A ({a}) is {kinds[0]} and B ({b}) is {kinds[1]}: name two of one kind")
    if trial and kinds[0] is not Kind.IMATRIX:
        raise RecipeError(f"--quantize is for importance matrices, and A ({a}) is {kinds[0]}: leave it out")
    if kinds[0] is Kind.RELEASE:
        return Diff(a, b, diff_releases(a, b, quantizer))
    if kinds[0] is Kind.GGUF:
        return Diff(a, b, diff_gguf(a, b, quantizer))
    if kinds[0] is Kind.RESULTS:
        return Diff(a, b, results.compare_results(a, b))
    found = imatrices.compare(a, b)
    names = [row.name for row in found.weights]
    quants = imatrix_effect.compare_quants({"A": a, "B": b}, names, trial, Path.cwd()) if trial else None
    return Diff(a, b, found, quants)


def as_text(found: Diff) -> str:
    """What differs, for people; the last line sums it up."""
    inner = found.found
    lines = [f"A: {found.a}", f"B: {found.b}"]
    if isinstance(inner, Comparison):
        # It names both itself.
        lines = [imatrices.as_text(inner)]
        lines += ["", imatrix_effect.as_text(found.quants), ""] if found.quants else []
    elif isinstance(inner, Pair):
        lines.append(results.as_text(inner))
    else:
        lines += _gguf_lines(inner) if isinstance(inner, GGUFDiff) else _release_lines(inner)
    return "\n".join([*lines, inner.summary])


def _release_lines(found: ReleaseDiff) -> Iterator[str]:
    yield from _change_lines("manifest.json", found.manifest)
    for file in found.files:
        yield ""
        sides = (f"{digest.size:,} B {digest.sha256}" if digest else "no such file" for digest in file.digests)
        yield f"{printable(file.name)}{'' if file.described else ' (not described by the manifest)'}"
        yield from (f"  {label} {side}" for label, side in zip("AB", sides, strict=True))
        if file.problem:
            yield f"  {file.problem}"
        if isinstance(file.detail, GGUFDiff):
            yield from _gguf_lines(file.detail)
        elif file.detail:
            yield imatrices.as_text(file.detail)
    if found.files:
        yield ""


def _gguf_lines(found: GGUFDiff) -> Iterator[str]:
    for what, changes in (("layout", found.layout), ("key", found.keys), ("tensor", found.unmatched)):
        yield from _change_lines(what, changes)
    if found.tensors:
        head = ("tensor", "type", "blocks that differ", "of", "bytes that differ", "of", "relative RMS", "largest")
        yield from table(head, [_row(tensor) for tensor in found.tensors[:MOST_SHOWN]])
        yield from _more(len(found.tensors))


def _row(tensor: TensorDiff) -> Sequence[str]:
    a, b = (kind.name for kind in tensor.types)
    counts = (tensor.blocks, tensor.of_blocks, tensor.bytes, tensor.of_bytes)
    apart = ("unknown" if value is None else f"{value:.3g}" for value in (tensor.relative, tensor.largest))
    return (tensor.name, a if a == b else f"{a} / {b}", *("-" if n is None else f"{n:,}" for n in counts), *apart)


def _change_lines(what: str, changes: Sequence[Change]) -> Iterator[str]:
    for change in changes[:MOST_SHOWN]:
        yield f"{what}: {change.place}"
        yield f"  A {change.a}"
        yield f"  B {change.b}"
    yield from _more(len(changes))


def _more(count: int) -> Iterator[str]:
    if count > MOST_SHOWN:
        yield f"and {count - MOST_SHOWN:,} more"


def as_document(found: Diff) -> dict[str, Any]:
    """What differs, for canonical JSON, which holds no floats: they are text, such as ``"1.5e-07"``."""
    return {"schema": DIFF, "same": found.same, "a": found.a.name, "b": found.b.name, **_inner(found)}


def _inner(found: Diff) -> dict[str, Any]:
    inner = found.found
    if isinstance(inner, Comparison):
        quants = {"quant": imatrix_effect.as_document(found.quants)} if found.quants else {}
        return {"imatrix": {**imatrices.as_document(inner), **quants}}
    if isinstance(inner, Pair):
        return {"results": results.as_document(inner)}
    return _gguf(inner) if isinstance(inner, GGUFDiff) else _release(inner)


def _gguf(found: GGUFDiff) -> dict[str, Any]:
    return {
        "layout": _changes(found.layout),
        "keys": _changes(found.keys),
        "unmatched": _changes(found.unmatched),
        "tensors": [_tensor(tensor) for tensor in found.tensors],
        "equal_tensors": found.equal,
    }


def _release(found: ReleaseDiff) -> dict[str, Any]:
    return {
        "manifest": _changes(found.manifest),
        "files": [_file(file) for file in found.files],
        "equal_files": found.equal,
    }


def _changes(changes: Sequence[Change]) -> list[dict[str, str]]:
    return [{"place": change.place, "a": change.a, "b": change.b} for change in changes]


def _tensor(tensor: TensorDiff) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "types": [kind.name for kind in tensor.types],
        "blocks": tensor.blocks,
        "of_blocks": tensor.of_blocks,
        "bytes": tensor.bytes,
        "of_bytes": tensor.of_bytes,
        "relative": None if tensor.relative is None else f"{tensor.relative:.9g}",
        "largest": None if tensor.largest is None else f"{tensor.largest:.9g}",
    }


def _file(file: FileDiff) -> dict[str, Any]:
    a, b = (_digest(digest) for digest in file.digests)
    entry: dict[str, Any] = {"name": printable(file.name), "a": a, "b": b, "described": file.described}
    if isinstance(file.detail, GGUFDiff):
        entry["gguf"] = _gguf(file.detail)
    elif file.detail:
        entry["imatrix"] = imatrices.as_document(file.detail)
    return entry | ({"problem": file.problem} if file.problem else {})


def _digest(digest: Digest | None) -> dict[str, Any] | None:
    return None if digest is None else {"size": digest.size, "sha256": digest.sha256}
