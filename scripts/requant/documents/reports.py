"""Reports that somebody asked for: written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from requant.ground.canonical import canonical
from requant.ground.digests import write_bytes
from requant.ground.errors import DiskError

AUDIT = "requant/audit/v2"
IMATRIX_AUDIT = "requant/imatrix-audit/v1"
SURVEY = "requant/survey/v1"
VERIFY = "requant/verify/v1"
REBUILD = "requant/rebuild/v1"
DIFF = "requant/diff/v1"
COMPARE = "requant/compare/v1"
PUBLISHED = "requant/published/v1"
"""What each report says that it is, under ``schema``."""


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report as canonical JSON; raises DiskError when ``path`` cannot be written."""
    _write(path, canonical(document))


def write_text(path: Path, text: str) -> None:
    """Write a report for people; raises DiskError when ``path`` cannot be written."""
    _write(path, text.encode(errors="replace"))


def _write(path: Path, data: bytes) -> None:
    try:
        write_bytes(path, data)
    except OSError as error:
        raise DiskError(f"{path} cannot be written ({error.strerror or error}): name another file") from error
