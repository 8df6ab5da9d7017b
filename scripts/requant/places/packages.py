"""Fetch one pinned distribution from the package index, with pip as the client.

pip honours the user's index, mirror and proxy settings, and checks the digest before it opens the archive.
"""

import logging
import shutil
import sys
from pathlib import Path

from requant.documents.pins import PackagePin
from requant.ground.digests import SHA256, check_file, named_when_whole
from requant.ground.disk import require_space
from requant.ground.errors import PinnedBytesError, SourceError
from requant.ground.programs import clean_environment, work_folder

logger = logging.getLogger(__name__)


def fetch_package(pin: PackagePin, kind: str, out: Path, log: Path) -> None:
    """Download ``pin`` as ``kind`` (``sdist`` or ``wheel``) to ``out``; pip's words go to ``log``.

    Raises:
        PinnedBytesError: when the index serves other bytes than the pinned ones.
        SourceError: when the index cannot be reached or lacks the version.
    """
    name = f"{pin.project}=={pin.version}"
    require_space(out.parent, 2 * (pin.expected.size or 0), f"downloading {name}")
    logger.info("downloading %s (%s) from the package index", name, kind)
    # An sdist's metadata is made by its own build backend, which stands in the workflow environment.
    form = ["--no-binary", ":all:", "--no-build-isolation"] if kind == "sdist" else ["--only-binary", ":all:"]
    with work_folder(out.parent / f"{pin.project}.download") as work:
        (work.path / "requirement.txt").write_text(f"{name} --hash=sha256:{pin.expected.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *form]
        work.run(
            [*command, "-r", "requirement.txt", "-d", "."],
            log,
            env=clean_environment({}, network=True),
            explain=lambda said: _explain(said, name, log),
        )
        found = [path for path in work.path.iterdir() if path.name != "requirement.txt"]
        if len(found) != 1:
            raise SourceError(f"pip left {len(found)} files for {name}, expected one: see {log}")
        check_file(found[0], pin.expected, name)
        with named_when_whole(out) as temporary:
            shutil.copyfile(found[0], temporary)


def _explain(said: str, name: str, log: Path) -> str | None:
    if "DO NOT MATCH THE HASHES" in said or ("hash" in said.lower() and "mismatch" in said.lower()):
        digests = SHA256.findall(said)
        found = f", it has {digests[-1]}" if len(digests) > 1 else ""
        raise PinnedBytesError(
            f"the index's {name} does not have the pinned SHA-256 {digests[0] if digests else ''}{found}"
        )
    if "No matching distribution" in said or "connection" in said.lower() or "timed out" in said.lower():
        raise SourceError(
            f"{name} cannot be had from the package index: check the network, or name a mirror in PIP_INDEX_URL "
            f"(log: {log})"
        )
    return None
