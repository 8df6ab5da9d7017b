"""What differs between A and B, two GGUF files or two release folders, for people and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.difference import imatrices as comparison
from requant.difference.ggufs import (
    Change,
    GGUFDiff,
    Open,
    TensorDiff,
    diff_gguf,
)
from requant.difference.releases import FileDiff, ReleaseDiff, diff_releases
from requant.documents.reports import DIFF
from requant.ground.digests import Digest
from requant.ground.errors import FormatError
from requant.ground.text import printable, table

MOST_SHOWN = 40
"""Lines of one kind that people are shown; the JSON holds all."""


@dataclass(frozen=True)
class Diff:
    """A and B, as they were named, and what differs between them."""

    a: Path
    b: Path
    found: GGUFDiff | ReleaseDiff

    @property
    def same(self) -> bool:
        """Whether two files are equal byte for byte, or two releases are the same."""
        return self.found.same


def diff(a: Path, b: Path, quantizer: Open) -> Diff:
    """Find what differs between two GGUF files, or between two release folders.

    Args:
        a: a GGUF file or a folder with a manifest.
        b: the same kind of thing.
        quantizer: gives what dequantizes; called only where a quantized tensor differs.

    Raises:
        FormatError: when one of them cannot be read (which of them is said), or they are not of one kind.
        UnsupportedError: when a manifest has a schema that this version does not know.
        RequantError: what ``quantizer`` raises for two files; between folders it becomes part of the outcome.
    """
    for label, path in (("A", a), ("B", b)):
        if not path.is_file() and not path.is_dir():
            raise FormatError(f"{label}: {path} is neither a file nor a folder: check the path")
    if a.is_dir() is not b.is_dir():
        folder, file = (a, b) if a.is_dir() else (b, a)
        raise FormatError(f"{folder} is a folder and {file} a file: name two GGUF files, or two release folders")
    return Diff(a, b, diff_releases(a, b, quantizer) if a.is_dir() else diff_gguf(a, b, quantizer))


def as_text(found: Diff) -> str:
    """What differs, for people."""
    lines = [f"A: {found.a}", f"B: {found.b}"]
    if isinstance(found.found, GGUFDiff):
        lines += [*_gguf_lines(found.found), _gguf_summary(found.found)]
    else:
        lines += [*_release_lines(found.found), _release_summary(found.found)]
    return "\n".join(lines)


def _gguf_summary(found: GGUFDiff) -> str:
    if found.same:
        return f"same: all keys and {found.equal:,} tensors are equal"
    tensors = f"{len(found.tensors) + len(found.unmatched):,} tensors, {found.equal:,} are equal"
    return f"they differ in {len(found.layout) + len(found.keys):,} keys and {tensors}"


def _release_summary(found: ReleaseDiff) -> str:
    if found.same:
        others = f"; {len(found.files):,} files that the manifest does not describe differ" if found.files else ""
        return f"same: the manifests are equal, and all that they describe{others}"
    files = f"{len(found.files):,} files, {found.equal:,} are equal"
    return f"they differ in {len(found.manifest):,} places of the manifest and in {files}"


def _release_lines(found: ReleaseDiff) -> Iterator[str]:
    yield from _change_lines("manifest.json", found.manifest)
    for file in found.files:
        yield ""
        sides = (f"{digest.size:,} B {digest.sha256}" if digest else "no such file" for digest in file.digests)
        yield f"{printable(file.name)}{'' if file.matters else ' (not described by the manifest)'}"
        yield from (f"  {label} {side}" for label, side in zip("AB", sides, strict=True))
        if file.problem:
            yield f"  {file.problem}"
        if isinstance(file.detail, GGUFDiff):
            yield from _gguf_lines(file.detail)
        elif file.detail:
            yield comparison.as_text(file.detail)
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
    inner = _gguf(found.found) if isinstance(found.found, GGUFDiff) else _release(found.found)
    return {"schema": DIFF, "same": found.same, "a": found.a.name, "b": found.b.name, **inner}


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
    entry: dict[str, Any] = {"name": printable(file.name), "a": a, "b": b, "described": file.matters}
    if isinstance(file.detail, GGUFDiff):
        entry["gguf"] = _gguf(file.detail)
    elif file.detail:
        entry["imatrix"] = comparison.as_document(file.detail)
    return entry | ({"problem": file.problem} if file.problem else {})


def _digest(digest: Digest | None) -> dict[str, Any] | None:
    return None if digest is None else {"size": digest.size, "sha256": digest.sha256}
