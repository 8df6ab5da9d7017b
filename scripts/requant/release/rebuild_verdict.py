"""What a rebuilt release says of the audited one: a verdict, and a report for people and as JSON.

A release is ``same`` if the rebuilt one has an equal manifest and equal files, and it agrees with itself. Portable
calibration gives the same bytes everywhere, so anything else ``differs``. Native and CUDA calibration do not: there a
release is ``close`` if only the importance matrix and the tensors quantized with it differ, and all of ``TOLERANCE``
holds. That the audited quant is exactly what the audited importance matrix gives is then for ``requant audit`` to
prove.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

from requant.difference import diff as difference
from requant.difference.diff import Diff
from requant.difference.ggufs import GGUFDiff
from requant.difference.imatrices import Comparison
from requant.difference.releases import ReleaseDiff, changes
from requant.documents.file_names import MANIFEST
from requant.documents.manifest import Manifest, alike, read_manifest
from requant.documents.reports import REBUILD
from requant.formats.ggml import PLAIN
from requant.ground.errors import FormatError
from requant.ground.exit_codes import ExitCode
from requant.ground.text import printable, table
from requant.release.verify import verify_release
from requant.toolchain.variants import PORTABLE

SAME, CLOSE, DIFFERS = "same", "close", "differs"
TOLERANCE = {"median": 1e-3, "p99": 1e-2, "cosine": 0.9999, "relative": 3e-2}
"""What native and CUDA calibration may change: at most the median and the 99 % quantile of the relative differences of
all columns' importances, at least the cosine of each weight's, and at most the relative RMS difference of each
quantized tensor. Between portable and native (``docs/portable.md``) a real model has 1e-4, 1.3e-3 and 0.999999997;
between native code for x86-64-v2 and for AVX2 the demo has 2.2e-5, 4.3e-4, 0.99999993 and 0.0091."""


@dataclass(frozen=True)
class Check:
    """One bound of ``TOLERANCE``: where it was tightest, what was found there, and whether that is within it."""

    name: str
    worst: str
    found: float
    passed: bool


@dataclass(frozen=True)
class Rebuilt:
    """An audited release beside the rebuilt one (A and B), and what that means.

    ``checks`` are the bounds where calibration may vary, ``others`` differences that no calibration explains, and
    where the audited release does not agree with itself.
    """

    name: str
    diff: Diff
    verdict: str
    checks: tuple[Check, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The verdict as a sentence."""
        meaning = {
            SAME: "the rebuilt release is the audited one",
            CLOSE: "the bytes differ as another processor's calibration makes them differ, within the tolerance",
            DIFFERS: "the rebuilt release is not the audited one",
        }
        return f"{self.verdict}: {meaning[self.verdict]}"

    @property
    def exit_code(self) -> ExitCode:
        """That of the rebuild."""
        return ExitCode.AGAINST if self.verdict == DIFFERS else ExitCode.OK


def judge(name: str, arithmetic: str, found: Diff) -> Rebuilt:
    """Give a verdict on two release folders; the audited one is verified before it is called the same.

    Args:
        name: the recipe's.
        arithmetic: that of the calibration.
        found: what differs between the audited release (A) and the rebuilt one (B).
    """
    assert isinstance(found.found, ReleaseDiff)
    if found.same:
        contradictions = tuple(_contradictions(found.a))
        return Rebuilt(name, found, DIFFERS if contradictions else SAME, others=contradictions)
    if arithmetic == PORTABLE:
        return Rebuilt(name, found, DIFFERS)
    others, checks = tuple(_unexplained(found, found.found)), tuple(_checks(found.found))
    passed = not others and checks and all(check.passed for check in checks)
    return Rebuilt(name, found, CLOSE if passed else DIFFERS, checks, others)


def _contradictions(folder: Path) -> Iterator[str]:
    """Where a release does not agree with itself, or why that cannot be told: then nobody can call it the same."""
    try:
        yield from (finding.where for finding in verify_release(folder).findings)
    except FormatError as error:
        yield printable(str(error))


def _unexplained(found: Diff, releases: ReleaseDiff) -> Iterator[str]:
    """Differences that another processor's calibration does not explain."""
    # Digests are left out below, so it must have been shown that they are those of the files.
    yield from _contradictions(found.a)
    manifests = [read_manifest(side / MANIFEST) for side in (found.a, found.b)]
    pairs = zip(alike(*manifests), manifests, strict=True)
    a, b = (_without_measurements(document, manifest) for document, manifest in pairs)
    yield from (f"{MANIFEST}: {change.place}" for change in changes(a, b))
    measured = {
        weight.name
        for file in releases.files
        if isinstance(file.detail, Comparison)
        for weight in file.detail.weights
        if not weight.same_bytes
    }
    for file in releases.files:
        if file.problem or (file.matters and not all(file.digests)):
            yield f"{file.name}: {file.problem or 'only one release has it'}"
        if isinstance(file.detail, Comparison):
            yield from (f"{file.name}: {note}" for note in file.detail.notes if note.startswith("imatrix."))
        if isinstance(file.detail, GGUFDiff):
            inside = file.detail
            yield from (f"{file.name}: {change.place}" for change in (*inside.layout, *inside.keys, *inside.unmatched))
            for tensor in inside.tensors:
                plain = any(kind in PLAIN for kind in tensor.types) or tensor.types[0] is not tensor.types[1]
                if plain or tensor.name not in measured:
                    yield f"{file.name}: {tensor.name}"


def _without_measurements(document: Mapping[str, Any], manifest: Manifest) -> Any:
    """A manifest's document without the processor and the digests of importance matrix, quants and their tensors."""
    plain = copy.deepcopy(dict(document))
    made = {file.sha256 for file in manifest.outputs[1:]}
    plain["imatrix"].pop("features")
    for quant in plain["quants"]:
        quant.pop("weights_root", None)
        for tensor in quant["tensors"]:
            # Which tensors may differ is decided by looking at them.
            tensor.pop("sha256")
    files = [
        plain["imatrix"]["file"],
        *plain["imatrix"].get("shards", ()),
        *(quant["file"] for quant in plain["quants"]),
    ]
    files += [file for step in plain["steps"] for key in ("materials", "products") for file in step[key]]
    for file in files:
        if file["sha256"] in made:
            file["sha256"] = "measured"
    return plain


def _checks(releases: ReleaseDiff) -> Iterator[Check]:
    """The tolerance, looked at where it is tightest."""
    for file in releases.files:
        if isinstance(file.detail, Comparison):
            total, worst = file.detail.total, min(file.detail.weights, key=lambda weight: weight.cosine)
            yield _at_most("median", file.name, total.median)
            yield _at_most("p99", file.name, total.most)
            yield Check("cosine", f"{file.name}: {worst.name}", worst.cosine, worst.cosine >= TOLERANCE["cosine"])
        elif isinstance(file.detail, GGUFDiff) and file.detail.tensors:
            name, most = max(
                # What cannot be read, or is not finite, is beyond every bound.
                ((tensor.name, _bounded(tensor.relative)) for tensor in file.detail.tensors),
                key=lambda pair: pair[1],
            )
            yield _at_most("relative", f"{file.name}: {name}", most)


def _bounded(value: float | None) -> float:
    return value if value is not None and isfinite(value) else inf


def _at_most(name: str, worst: str, found: float) -> Check:
    return Check(name, worst, found, found <= TOLERANCE[name])


def as_text(found: Rebuilt) -> str:
    """The report for people: A is the audited release, B the rebuilt one."""
    lines = [
        f"{found.name}, rebuilt from its manifest: A is the audited release, B the rebuilt one",
        difference.as_text(found.diff),
    ]
    if found.checks:
        rows = [
            (
                check.name,
                check.worst,
                f"{check.found:.9g}",
                f"{TOLERANCE[check.name]:g}",
                "yes" if check.passed else "no",
            )
            for check in found.checks
        ]
        lines += ["", *table(("tolerance", "worst in", "found", "bound", "within"), rows)]
    lines += [f"not explained by calibration: {other}" for other in found.others]
    return "\n".join([*lines, found.summary])


def as_document(found: Rebuilt) -> dict[str, Any]:
    """The report for canonical JSON, which holds no floats."""
    return {
        "schema": REBUILD,
        "name": found.name,
        "verdict": found.verdict,
        "diff": difference.as_document(found.diff),
        "checks": [
            {
                "name": check.name,
                "worst": check.worst,
                "found": f"{check.found:.9g}",
                "bound": f"{TOLERANCE[check.name]:g}",
                "passed": check.passed,
            }
            for check in found.checks
        ],
        "others": list(found.others),
    }
