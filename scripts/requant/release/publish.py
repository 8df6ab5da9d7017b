"""Bringing a release to hubs: what would change at each, carrying it out, and what they record afterwards.

Large files go first and sums, manifest and card last, so that whoever looks meanwhile sees no release that is finished.
Nothing is remembered from run to run: what is there is asked of the hub, so a run that was stopped is repeated safely.
"""

from dataclasses import dataclass

from requant.documents.file_names import CARD, LEFT_BY_HUBS, MANIFEST, SIGNATURES, SUMS
from requant.documents.manifest import read_manifest
from requant.ground.digests import Digest, Known, check_file, digest_file, git_blob
from requant.ground.errors import MismatchError, PinnedBytesError, RequantError, SourceError, StaleError, sentence
from requant.ground.text import listed
from requant.places.destinations.destination import Change, Contents, Destination, Fate, Held, Wishes, changed
from requant.places.place import checked_names
from requant.release.verify_verdict import Verification

PENDING = (Fate.NEW, Fate.REPLACED, Fate.DELETED)
"""What there is to do."""
PAPERS = (SUMS, MANIFEST, CARD)
"""What makes a release look finished, in the order in which it is brought."""


@dataclass(frozen=True)
class Plan:
    """What becomes of each file at one destination, which holds ``held`` now."""

    destination: Destination
    held: Held
    changes: tuple[Change, ...]

    @property
    def pending(self) -> list[Change]:
        """What is not as it shall be."""
        return [change for change in self.changes if change.fate in PENDING]


@dataclass(frozen=True)
class Publication:
    """How one destination was left: ``found`` is read back from it, ``None`` where it could not be.

    ``error`` is why not all is there; nothing where it is.
    """

    plan: Plan
    found: Plan | None
    error: RequantError | None


def contents(verification: Verification) -> Contents:
    """What of a release that was verified, and agrees, is brought: what its sums name, these, and its signatures."""
    folder = verification.folder
    beside = [name for name in (SUMS, *SIGNATURES) if (folder / name).is_file()]
    found = {entry["name"]: Digest(entry["size"], entry["sha256"]) for entry in verification.files}
    found |= {name: digest_file(folder / name) for name in beside}
    return Contents(folder, {name: found[name] for name in sorted(found, key=_turn)})


def wishes(release: Contents, *, review: bool, private: bool) -> Wishes:
    """How destinations are changed; the title names the release, so that what it was given to is found again."""
    manifest = read_manifest(release.folder / MANIFEST)
    title = f"{manifest.recipe.document['name']}, release {release.files[SUMS].sha256[:12]}"
    return Wishes(title, manifest.inputs.weights.licence, review, private)


def plan(release: Contents, destination: Destination, wished: Wishes, *, delete: bool) -> Plan:
    """What would change at a destination; nothing is deleted there unless ``delete`` says so.

    Raises:
        SourceError: when its hub refuses or does not answer.
    """
    held = destination.held(wished)
    checked_names(f"{destination.repo} on {destination.endpoint}", held.files)
    others = [name for name in held.files if name not in release.files and not _is_left_by_hubs(name)]
    changes = [Change(name, _fate(release, name, held.files.get(name))) for name in release.files]
    changes += [Change(name, Fate.DELETED if delete else Fate.KEPT) for name in others]
    return Plan(destination, held, tuple(sorted(changes, key=lambda change: _turn(change.name))))


def carry_out(release: Contents, planned: Plan, wished: Wishes, *, delete: bool) -> Publication:
    """Do what a plan says, then read back what the hub records, whether that went well or not."""
    error: RequantError | None = None
    try:
        if planned.pending:
            planned.destination.change(release, planned.changes, planned.held, wished)
    except RequantError as raised:
        error = raised
    except OSError as raised:
        error = _unread(raised)
    try:
        found = plan(release, planned.destination, wished, delete=delete)
        if not found.pending:
            # Where there was an error, the answer to the last request was lost, and no more.
            return Publication(planned, found, None)
        if not planned.pending:
            where = f"{found.destination.repo} on {found.destination.endpoint}"
            return Publication(
                planned, found, SourceError(f"{where} was changed by somebody else meanwhile: run again")
            )
        return Publication(planned, found, error or _disagreement(release, found))
    except (SourceError, StaleError) as unseen:
        return Publication(planned, None, error or unseen)
    except OSError as raised:
        return Publication(planned, None, error or _unread(raised))


def _disagreement(release: Contents, found: Plan) -> RequantError:
    """What is wrong with a hub that took everything, or with the files that were brought."""
    where = f"{found.destination.repo} on {found.destination.endpoint}"
    left = [name for name, _ in found.pending]
    known = {name: found.held.files[name] for name, fate in found.changes if fate is Fate.REPLACED}
    if other := [name for name in known if digest_file(release.folder / name) != release.files[name]]:
        return changed(other)
    if other := [name for name in known if known[name].proves_content]:
        return MismatchError(f"{where} records other bytes of {listed(other)} than were brought: run again")
    if known:
        return SourceError(f"{where} took everything and records no digest of {listed([*known])}: not checked")
    return SourceError(f"{where} took everything and does not show {listed(left)} as it should: run again")


def _unread(error: OSError) -> StaleError:
    """That a file of the release is no longer there to be read."""
    return StaleError(f"the release cannot be read any more ({sentence(error)})")


def _fate(release: Contents, name: str, known: Known | None) -> Fate:
    if known is None:
        return Fate.NEW
    digest = release.files[name]
    if known.size not in (None, digest.size) or not known.proves_content:
        return Fate.REPLACED
    if known.sha256:
        return Fate.SAME if known.sha256 == digest.sha256 else Fate.REPLACED
    path = release.folder / name
    # A blob id of the bytes that were verified, or none.
    blob = git_blob(path)
    try:
        check_file(path, Known(digest.size, digest.sha256, blob))
    except PinnedBytesError as error:
        raise changed([name]) from error
    return Fate.SAME if known.git_blob == blob else Fate.REPLACED


def _turn(name: str) -> tuple[int, int, str]:
    """GGUFs, then whatever else there is, then the papers."""
    return (PAPERS.index(name) + 1 if name in PAPERS else 0), not name.endswith(".gguf"), name


def _is_left_by_hubs(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/")) or name in LEFT_BY_HUBS
