"""The wheel and the source archive: the same bytes from any checkout, with all that the installed command reads."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import requant
from support.checkout import ROOT

UV = Path(sys.executable).with_name("uv")
WHEEL = f"requant-{requant.__version__}-py3-none-any.whl"
SDIST = f"requant-{requant.__version__}.tar.gz"
LOCKS = ("converter", "torch", "torch-cpu")
CARRIED = ("cmake", "native", "schemas", "templates", "upstream")
"""Folders of ``workflow`` to which links in ``requant/data`` lead, and that are packed whole."""


def checkout(folder: Path) -> Path:
    """What is packed and what must not be, without ignored files."""
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("config", "envs", "package", "scripts", "workflow"):
        leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=leave)
    return folder


def built(folder: Path, *options: str) -> dict[str, bytes]:
    """What ``make dist`` writes there; no package index answers."""
    command = [UV, "build", "--quiet", "--offline", "--no-build-isolation", "--python", sys.executable, *options]
    subprocess.run(command, cwd=folder, check=True)
    return {path.name: path.read_bytes() for path in (folder / "dist").iterdir() if path.name != ".gitignore"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The source archive, and the wheel that is built from it."""
    return built(checkout(tmp_path_factory.mktemp("one")))


def test_another_checkout_gives_the_same_bytes(
    dist: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of other times and rights, after other builds; and from it the wheel is built without the source archive."""
    other = checkout(tmp_path_factory.mktemp("another folder"))
    for path in (path for path in other.rglob("*") if path.is_file()):
        path.chmod(0o664)
        os.utime(path, (1, 1))
    for left in ("build/lib/requant/gone.py", "scripts/requant/__pycache__/gone.pyc", "scripts/requant.egg-info/gone"):
        (other / left).parent.mkdir(parents=True)
        (other / left).touch()
    found = built(other, "--sdist", "--wheel")
    assert sorted(dist) == sorted(found) == [WHEEL, SDIST]
    sums = [{name: hashlib.sha256(data).hexdigest() for name, data in each.items()} for each in (dist, found)]
    assert sums[0] == sums[1]


def test_the_version_stands_in_one_place() -> None:
    """In ``requant/__init__.py``; the changelog names it as a heading."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_nothing_of_this_machine_is_packed(dist: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in dist.items():
        (tmp_path / name).write_bytes(data)
    with tarfile.open(tmp_path / SDIST) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert {member.mode for member in members if member.isfile()} == {0o644}
    assert all(member.isfile() or member.isdir() for member in members), "a link leads out of the archive"
    with zipfile.ZipFile(tmp_path / WHEEL) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.external_attr >> 16 for info in infos} == {0o100644}


def test_the_wheel_holds_what_the_command_reads(dist: dict[str, bytes], tmp_path: Path) -> None:
    """Every module, and every file of the folders that are carried, also of folders in them."""
    (tmp_path / WHEEL).write_bytes(dist[WHEEL])
    with zipfile.ZipFile(tmp_path / WHEEL) as archive:
        packed = {info.filename: archive.read(info) for info in archive.infolist()}
    files = {f"requant/data/{path.relative_to(ROOT / 'workflow')}": path
             for name in CARRIED for path in (ROOT / "workflow" / name).rglob("*") if path.is_file()}  # fmt: skip
    files |= {str(path.relative_to(ROOT / "scripts")): path for path in (ROOT / "scripts" / "requant").rglob("*.py")}
    files["requant/data/pins.yaml"] = ROOT / "config" / "pins.yaml"
    files |= {f"requant/data/locks/{name}.lock": ROOT / "envs" / f"{name}.lock" for name in LOCKS}
    rest = {name for name in packed if not name.startswith(f"requant-{requant.__version__}.dist-info/")}
    assert rest == set(files)
    assert all(packed[name] == path.read_bytes() for name, path in files.items())
