"""setuptools, giving the same bytes every time: the build backend that ``pyproject.toml`` names.

setuptools packs files with the times and rights that they have in this checkout, and with what an earlier build left in
it. Here it works in a copy of what is packed, and the archive that it wrote is written again: members by name, with one
time, one owner, and rights that no umask has touched. What is left that may change a byte are the versions of
setuptools and of zlib. Hooks: https://peps.python.org/pep-0517/.
"""

import gzip
import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the hooks that pack nothing

PACKED = ("LICENSE", "MANIFEST.in", "README.md", "package", "pyproject.toml", "scripts/requant")
DATE = (1980, 1, 1, 0, 0, 0)
"""The first that a zip can say."""
SECONDS = 315532800
"""The same, since 1970."""

Settings = Mapping[str, Any] | None


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Write the wheel into ``wheel_directory`` and say its name."""
    folder = Path(wheel_directory).absolute()
    with _copy():
        name: str = build_meta.build_wheel(str(folder), config_settings, metadata_directory)
    _write_zip_again(folder / name)
    return name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Write the source archive into ``sdist_directory`` and say its name; links are files there."""
    folder = Path(sdist_directory).absolute()
    with _copy():
        name: str = build_meta.build_sdist(str(folder), config_settings)
    _write_tar_again(folder / name)
    return name


@contextmanager
def _copy() -> Iterator[None]:
    """Work in a folder with what is packed and nothing else; what setuptools leaves beside it goes with the folder."""
    with TemporaryDirectory() as folder:
        for name in PACKED:
            target = Path(folder, name)
            if Path(name).is_dir():
                shutil.copytree(name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(name, target)
        with chdir(folder):
            yield


def _rights(mode: int) -> int:
    return 0o755 if mode & 0o100 else 0o644


def _write_zip_again(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        # The metadata stand at the end, as https://packaging.python.org/specifications/binary-distribution-format asks.
        for info, data in sorted(members, key=lambda member: (".dist-info/" in member[0].filename, member[0].filename)):
            written = zipfile.ZipInfo(info.filename, DATE)
            written.compress_type = zipfile.ZIP_DEFLATED
            written.external_attr = (0o100000 | _rights(info.external_attr >> 16)) << 16
            archive.writestr(written, data)


def _write_tar_again(path: Path) -> None:
    with tarfile.open(path) as archive:
        members = [(info, archive.extractfile(info)) for info in archive.getmembers()]
        packed = [(info, file.read() if file else b"") for info, file in members]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in sorted(packed, key=lambda member: member[0].name):
            written = tarfile.TarInfo(info.name)
            written.type, written.size, written.mtime = info.type, len(data), SECONDS
            written.mode = 0o755 if info.isdir() else _rights(info.mode)
            archive.addfile(written, io.BytesIO(data))
    with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as compressed:
        compressed.write(stream.getvalue())
