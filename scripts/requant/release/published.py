"""What is said of publishing a release, before and after, and the record of where it lies."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from requant.documents.file_names import SUMS
from requant.documents.reports import PUBLISHED, write_document
from requant.documents.schemas import fault
from requant.ground.canonical import parse
from requant.ground.digests import read_small
from requant.ground.errors import FormatError
from requant.ground.exit_codes import ExitCode, exit_code
from requant.ground.text import counted, in_units, listed, printable, without_secrets
from requant.pipeline import layout
from requant.places.destinations.destination import Contents, Fate
from requant.release.publish import Plan, Publication

LONGEST = 1 << 24
"""Bytes of a record: room for a hundred places of a release of a thousand files."""


def plan_as_text(release: Contents, planned: Plan) -> str:
    """What would change at one destination."""
    there = planned.destination
    revision = planned.held.revision or "a new pull request"
    where = f"{there.hub}:{there.repo}, {revision}, at {there.endpoint}"
    if not planned.held.exists:
        where += ": not there, or not for this token to see; it would be made"
    width = max(len(name) for name, _ in planned.changes)
    lines = [
        f"  {fate:<8}  {printable(without_secrets(name)):<{width}}  "
        + (in_units(release.files[name].size) if name in release.files else "not in the release")
        for name, fate in planned.changes
    ]
    return "\n".join([where, *lines])


def as_text(publication: Publication) -> str:
    """How one destination was left."""
    there = publication.plan.destination
    where = f"{there.hub}:{there.repo}"
    if publication.found is None:
        return f"unknown: {where} could not be read back: {publication.error}"
    changes = publication.found.changes
    files = [name for name, fate in changes if fate in (Fate.SAME, Fate.NEW, Fate.REPLACED)]
    there_now = [name for name, fate in changes if fate is Fate.SAME]
    count = f"{len(there_now):,} of {counted(len(files), 'file')} are as released"
    if publication.error is None:
        revision = publication.found.held.revision or "the main branch, with nothing to review"
        return f"complete: {where}, {revision}: {count}{_beside(changes)}"
    left = listed([f"{name} ({fate})" for name, fate in publication.found.pending])
    return f"incomplete: {where}: {count}, left to do: {left}: {publication.error}"


def _beside(changes: Sequence[tuple[str, Fate]]) -> str:
    """What is said of quants of an earlier release that stay: ``:Q4_K_M`` may be either, and sums know them not."""
    kept = [name for name, fate in changes if fate is Fate.KEPT and name.endswith(".gguf")]
    return f"; {listed(kept)} of another release stays beside them: --delete removes it" if kept else ""


def worst(publications: Sequence[Publication]) -> ExitCode:
    """That of evidence against a hub, or else of what was not done."""
    codes = {exit_code(each.error) for each in publications if each.error is not None}
    return min(codes, default=ExitCode.OK)


def record_path(release: Path) -> Path:
    """Where the record of a release lies."""
    return Path(layout.published(str(release.resolve())))


def read_record(path: Path) -> list[dict[str, Any]]:
    """The places that a record names; none where there is no record yet.

    Raises:
        FormatError: when it is no such record.
    """
    if not path.exists():
        return []
    document = parse(read_small(path, LONGEST), str(path))
    if wrong := fault(document, "published", str(path)):
        raise FormatError(f"{wrong}: move it away and run again")
    return list(document["places"])


def write_record(path: Path, release: Contents, publications: Sequence[Publication]) -> None:
    """Write where the release lies now, beside what the record says of other places.

    Raises:
        DiskError: when it cannot be written.
    """
    now = [_place(release, each) for each in publications]
    # A pull request that is there is no longer one that was to be opened.
    named = {_name(place | revision) for place in now for revision in ({}, {"revision": None})}
    places = [place for place in read_record(path) if _name(place) not in named] + now
    write_document(path, {"schema": PUBLISHED, "places": sorted(places, key=_name)})


def _name(place: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(place[key]) for key in ("hub", "endpoint", "repo", "revision"))


def _place(release: Contents, publication: Publication) -> dict[str, Any]:
    there, found = publication.plan.destination, publication.found
    held = (found or publication.plan).held
    return {
        "hub": there.hub,
        "endpoint": str(there.endpoint),
        "repo": there.repo,
        "revision": held.revision,
        "commit": held.commit if found else None,
        "sums": release.files[SUMS].sha256,
        "complete": publication.error is None,
        "error": None if publication.error is None else printable(str(publication.error)),
        "files": [*_files(release, found)],
        "beside": [
            printable(without_secrets(name)) for name, fate in found.changes if fate in (Fate.KEPT, Fate.DELETED)
        ]
        if found
        else [],
    }


def _files(release: Contents, found: Plan | None) -> Iterator[dict[str, Any]]:
    fates = dict(found.changes) if found else {}
    for name, digest in sorted(release.files.items()):
        known = found.held.files.get(name) if found else None
        yield {
            "name": name,
            "size": digest.size,
            "sha256": digest.sha256,
            "recorded": known and {"size": known.size, "sha256": known.sha256, "git_blob": known.git_blob},
            "agrees": fates.get(name) is Fate.SAME,
        }
