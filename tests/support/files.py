"""What tests say of files on the disk."""

import hashlib
from pathlib import Path

from requant.ground.digests import Known, digest_bytes, digest_file

SHARD = "model-00001-of-00001.safetensors"
"""The shard of the model repository in miniature (the fixture ``folder``)."""
DEEP_SHARD, DEEP_CONFIG = "model.safetensors", "deep/config.json"
DEEP_DATA = bytes(range(256)) * 64
"""What ``write_deep`` writes."""


def known(path: Path) -> Known:
    """All that can be known of a file beforehand, but for its git blob id."""
    digest = digest_file(path)
    return Known(digest.size, digest.sha256)


def blob_id(data: bytes) -> str:
    """What git calls a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def known_bytes(data: bytes) -> Known:
    """All that can be known of a file of these bytes beforehand."""
    digest = digest_bytes(data)
    return Known(digest.size, digest.sha256, blob_id(data))


def files_below(folder: Path) -> set[str]:
    """Relative paths of all files."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    """What lies directly in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def write_deep(root: Path) -> Path:
    """A repository with a file in a folder, and one that is stored in LFS."""
    (root / DEEP_CONFIG).parent.mkdir(parents=True)
    (root / DEEP_CONFIG).write_text("{}\n")
    (root / DEEP_SHARD).write_bytes(DEEP_DATA)
    return root
