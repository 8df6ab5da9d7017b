"""Get a recipe's weights from its mirror, every file proven before anything reads it."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from requant.conversion.files import checkpoint_files, shards_of
from requant.documents.pins import WEIGHTS, ModelPin
from requant.documents.records import file_entry, write_record
from requant.formats.safetensors import INDEX
from requant.ground.canonical import canonical
from requant.ground.digests import Digest, Known, publish, write_bytes
from requant.ground.disk import at_home
from requant.ground.errors import SourceError
from requant.ground.programs import work_folder
from requant.pipeline.recipe import bytes_after_download
from requant.places.downloads import all_here, fetch_files, fetch_packed, known_files, require_room
from requant.places.pages import HUGGING_FACE, MODELSCOPE
from requant.places.repository import FolderRepository, Repository

logger = logging.getLogger(__name__)
MARK = ".pin"
"""Says what pin a download is of."""


def fetch_model(
    pin: ModelPin, mirror: str, quants: Sequence[str], keep: Sequence[str], out: Path, record: Path, log: Path
) -> None:
    """Get the files of ``pin`` into the folder ``out`` and write what was proven to ``record``.

    ``mirror`` (the recipe's ``source``) is ``huggingface``, ``modelscope`` or a folder; ``quants`` are the types to
    come and ``keep`` what stays, for the disk check. Interrupted downloads are kept beside ``out`` and go on in the
    next run.

    Raises:
        SourceError: when the files cannot be had, PinnedBytesError: when they are not the pinned ones,
        DiskError: when there is no room for them and every later step.
    """
    with work_folder(out.parent / "download", keep=True) as work:
        _forget_another_pin(pin, work.path)
        if pin.package is not None and mirror == "huggingface":
            _require_room(work.path, pin.files, quants, keep)
            found = fetch_packed(pin.package, pin.files, work.path, log)
        else:
            found = _from_repository(pin, mirror, quants, keep, work.path)
        out.mkdir(parents=True, exist_ok=True)
        for name in pin.files:
            publish(work.path / name, out / name)
    shutil.rmtree(work.path, ignore_errors=True)
    write_record(record, {**pin.as_input(), "files": [file_entry(name, found[name]) for name in sorted(found)]})


def _forget_another_pin(pin: ModelPin, folder: Path) -> None:
    """Go on with a download of this very pin only; what another revision left there would be its wrong beginning."""
    # Digests that were added to the pin since make no other download of it.
    mark, wanted = folder / MARK, canonical({"repo": pin.repo, "revision": pin.revision, "modelscope": pin.modelscope})
    if mark.exists() and mark.read_bytes() == wanted:
        return
    shutil.rmtree(folder)
    folder.mkdir()
    write_bytes(mark, wanted)


def _from_repository(
    pin: ModelPin, mirror: str, quants: Sequence[str], keep: Sequence[str], folder: Path
) -> dict[str, Digest]:
    if mirror == "modelscope":
        repository, witness = _modelscope(pin), None
    elif mirror == "huggingface":
        repository, witness = _hub(pin), None
    else:
        # A folder records no digests, so files without a pinned one are looked up on the Hub.
        repository, witness = _folder(mirror), _hub(pin) if pin.revision is not None else None
    files = known_files(pin.files, repository, witness)
    _require_all(pin, repository)
    _require_room(folder, files, quants, keep)
    if INDEX in files:
        # First, so that a shard that is missing in the pin is no matter of hours.
        fetch_files({INDEX: files[INDEX]}, repository, folder)
        _require_shards(pin, folder / INDEX)
    return fetch_files(files, repository, folder)


def _require_all(pin: ModelPin, repository: Repository) -> None:
    """Refuse a pin that leaves out what the converter would read, and would go without in silence.

    Raises:
        SourceError: naming the files, and what to write; or when nobody can be asked and something is to be fetched.
    """
    if pin.is_gguf:
        return
    try:
        listed = repository.names()
    except SourceError as error:
        if not all_here(pin.files, repository):
            raise
        logger.warning("%s", error)
        listed = None
    if listed is None:
        logger.warning("nobody can be asked which files %s holds besides the pinned ones", repository.shown)
        return
    missing = [name for name in checkpoint_files(listed) if name not in pin.files]
    if missing:
        lines = ", ".join(f"{name}: {{}}" for name in missing)
        raise SourceError(
            f"{repository.shown} holds {missing[0]}, which the converter reads and the pin of {pin.name} lacks: write "
            f"into its files: {lines}; or let requant pin write all of it"
        )


def _require_shards(pin: ModelPin, index: Path) -> None:
    missing = [shard for shard in shards_of(index.read_bytes(), INDEX) if shard not in pin.files]
    if missing:
        raise SourceError(
            f"{INDEX} names {missing[0]}, which the pin of {pin.name} lacks: write all {len(missing)} missing shards "
            "into its files, or let requant pin write all of it"
        )


def _hub(pin: ModelPin) -> Repository:
    HUGGING_FACE.require_endpoint()
    from requant.places.hub import HubRepository

    assert pin.repo is not None
    assert pin.revision is not None
    return HubRepository(pin.repo, pin.revision)


def _modelscope(pin: ModelPin) -> Repository:
    MODELSCOPE.require_endpoint()
    from requant.places.modelscope import ModelScopeRepository

    assert pin.modelscope is not None
    # At master every file has a pinned digest: the recipe would have been refused.
    revision = pin.modelscope.get("revision")
    return ModelScopeRepository(pin.modelscope["repo"], revision or "master")


def _folder(mirror: str) -> Repository:
    folder = at_home(mirror)
    if not folder.is_dir():
        raise SourceError(f"source is {str(folder)!r}, which is no folder; write huggingface, modelscope or a folder")
    return FolderRepository(folder)


def _require_room(folder: Path, files: Mapping[str, Known], quants: Sequence[str], keep: Sequence[str]) -> None:
    weights = sum(known.size or 0 for name, known in files.items() if name.endswith(WEIGHTS))
    later = bytes_after_download(weights, quants, keep)
    require_room(folder, files, "this recipe (weights, BF16 GGUF and quants)", later)
