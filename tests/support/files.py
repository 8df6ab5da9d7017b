"""What tests say of files on the disk."""

from pathlib import Path

from requant.ground.digests import Known, digest_file

SHARD = "model-00001-of-00001.safetensors"
"""The shard of the model repository in miniature (the fixture ``folder``)."""


def known(path: Path) -> Known:
    """All that can be known of a file beforehand, but for its git blob id."""
    digest = digest_file(path)
    return Known(digest.size, digest.sha256)


def files_below(folder: Path) -> set[str]:
    """Relative paths of all files."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
