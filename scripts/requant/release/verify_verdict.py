"""What verifying a release found: its verdict, for people and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requant.documents.consistency import Disagreement
from requant.documents.reports import VERIFY
from requant.ground.exit_codes import ExitCode
from requant.ground.text import counted, in_units

MOST_SHOWN = 20


@dataclass(frozen=True)
class Share:
    """How many of so many have other bytes than are named, or are missing."""

    differing: int
    of: int


@dataclass(frozen=True)
class Verification:
    """What a release (or a file, that is ``what``) holds, where it disagrees, and what was left open.

    ``schema`` is that of the manifest, if one could be read; ``files`` are name, size and sha256 as found; ``tensors``
    is the number of tensors whose digests were computed; ``unchecked`` are parts that could not be compared;
    ``signed_by`` is the id of the key whose signature is right. ``other_files`` is a share of those that ``SHA256SUMS``
    names, ``other_tensors`` of those in the manifest or in a quant.
    """

    folder: Path
    schema: str | None
    files: tuple[dict[str, Any], ...]
    tensors: int
    findings: tuple[Disagreement, ...]
    notes: tuple[str, ...]
    unchecked: tuple[str, ...]
    signed_by: str | None
    other_files: Share
    other_tensors: Share
    what: str = "release"

    @property
    def verdict(self) -> str:
        """``differs``, ``unchecked`` where a part could not be compared, or ``agrees``."""
        return "differs" if self.findings else "unchecked" if self.unchecked else "agrees"

    @property
    def exit_code(self) -> ExitCode:
        """That of the verdict."""
        return {"agrees": ExitCode.OK, "differs": ExitCode.AGAINST, "unchecked": ExitCode.UNCHECKED}[self.verdict]


def as_text(verification: Verification) -> str:
    """What was found, for people."""
    lines = [f"{verification.what}: {verification.folder}", *_listed(verification.files)]
    lines += [
        f"differs: {f.where}\n  expected {f.expected}\n  found    {f.actual}"
        for f in verification.findings[:MOST_SHOWN]
    ]
    if (more := len(verification.findings) - MOST_SHOWN) > 0:
        lines.append(f"and {more:,} more differences")
    lines += [f"not checked: {part}" for part in verification.unchecked]
    lines += [f"note: {note}" for note in verification.notes]
    if verification.signed_by:
        lines.append(f"signed by the key {verification.signed_by}")
    return "\n".join([*lines, f"{verification.verdict}: {_summary(verification)}"])


def _listed(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    width = max((len(file["name"]) for file in files), default=0)
    for file in files:
        yield f"  {file['name']:<{width}}  {in_units(file['size']):>8}  {file['sha256']}"


def _summary(verification: Verification) -> str:
    shares = [(verification.other_files, "file"), (verification.other_tensors, "tensor")]
    shares = [(share, noun) for share, noun in shares if share.of]
    if any(share.differing for share, _ in shares):
        return f"{' and '.join(f'{share.differing:,} of {share.of:,} {noun}s' for share, noun in shares)} differ"
    compared = " and ".join(counted(share.of, noun) for share, noun in shares)
    more = {"agrees": "", "unchecked": ", but not all was checked", "differs": ", but what else is listed does"}
    return f"none of {compared} differs{more[verification.verdict]}"


def as_document(verification: Verification) -> dict[str, Any]:
    """What was found, for canonical JSON."""
    return {
        "schema": VERIFY,
        "verdict": verification.verdict,
        "manifest": verification.schema,
        "files": list(verification.files),
        "tensors": verification.tensors,
        "findings": [
            {"where": finding.where, "expected": finding.expected, "actual": finding.actual}
            for finding in verification.findings
        ],
        "notes": list(verification.notes),
        "unchecked": list(verification.unchecked),
        "signed_by": verification.signed_by,
    }
