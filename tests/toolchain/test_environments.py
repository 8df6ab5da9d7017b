"""requant.toolchain.environments with real virtual environments and pip, and packages of no weight in place of torch and the rest."""

import io
import logging
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from requant.documents.records import file_entry, read_record, write_record
from requant.ground.digests import digest_bytes, digest_file
from requant.ground.errors import DiskError, SourceError, StaleError, ToolError
from requant.ground.locks import in_turn
from requant.toolchain.converter import converter_python
from requant.toolchain.environments import (
    add_packages,
    build_converter,
    build_datasets,
    build_harness,
    environment_python,
)
from requant.toolchain.quantizers import toolchains
from support.checkout import ROOT
from support.clocks import until
from support.linked import linked_environment

CONVERTER = ("transformers", "sentencepiece", "gguf")


def wheel(index: Path, name: str, version: str, more: str = "") -> str:
    """Put a wheel with one module into ``index`` and return its line for a lock."""
    data = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}.py", f"__version__ = {version!r}\nAutoConfig = AutoTokenizer = None\n{more}")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (index / f"{name}-{version}-py3-none-any.whl").write_bytes(data.getvalue())
    return f"{name}=={version} --hash=sha256:{digest_bytes(data.getvalue()).sha256}\n"


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of the converter's environment, and an index with everything but a CPU build of torch."""
    index, folder = tmp_path / "index", tmp_path / "locks"
    index.mkdir()
    folder.mkdir()
    (folder / "converter.lock").write_text("".join(wheel(index, name, "1.0") for name in CONVERTER))
    (folder / "torch.lock").write_text(wheel(index, "torch", "2.0"))
    (folder / "torch-cpu.lock").write_text(f"torch==2.0+cpu --hash=sha256:{'0' * 64}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setattr("requant.toolchain.environments.ROOM", 1)
    monkeypatch.setattr("requant.toolchain.environments.ROOM_CUDA", 1)
    return folder


def test_the_ordinary_torch_is_taken_and_it_is_said(
    locks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = tmp_path / "results" / "environment.json"
    with caplog.at_level(logging.WARNING):
        build_converter(locks, record, tmp_path / "log")
    assert "no known CPU build of torch was found; installing the ordinary one" in caplog.text
    assert "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu" in caplog.text
    lock = file_entry("converter.lock", digest_file(locks / "converter.lock"))
    python = ".".join(map(str, sys.version_info[:3]))
    assert read_record(record) == {"torch": "2.0", "python": python, "lock": lock}
    assert environment_python(record) == tmp_path / "results" / "environment" / "bin" / "python"
    assert {path.name for path in record.parent.iterdir()} == {"environment", "environment.json", ".install.lock"}


def test_a_cpu_build_is_preferred(locks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = tmp_path / "results" / "environment.json"
    (locks / "torch-cpu.lock").write_text(wheel(tmp_path / "index", "torch", "2.0+cpu"))
    with caplog.at_level(logging.WARNING):
        build_converter(locks, record, tmp_path / "log")
    assert read_record(record)["torch"] == "2.0+cpu"
    assert not caplog.records


def test_two_first_audits_install_one_converter(
    locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While another installs, what lies there stays; and nobody installs again what it made meanwhile."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("requant.toolchain.converter.LOCKS", locks)
    (locks / "torch-cpu.lock").write_text(wheel(tmp_path / "index", "torch", "2.0+cpu"))
    left = toolchains() / "converter" / "environment" / "left"
    left.mkdir(parents=True)
    with caplog.at_level("INFO"), ThreadPoolExecutor(2) as pool:
        with in_turn(toolchains() / "converter" / "install"):
            both = [pool.submit(converter_python, build=True) for _ in range(2)]
            until(lambda: caplog.text.count("waiting for another run") == 2)
            assert left.exists()
        assert {each.result() for each in both} == {left.with_name("bin") / "python"}
    assert caplog.text.count("installing the environment") == 1
    assert not left.exists()


def test_the_harness(locks: Path, tmp_path: Path) -> None:
    lock, record = locks / "harness.lock", tmp_path / "harness" / "environment.json"
    lock.write_text(wheel(tmp_path / "index", "evalscope", "1.0"))
    build_harness(lock, record, tmp_path / "log")
    assert read_record(record) == {"version": "1.0", "lock": file_entry("harness.lock", digest_file(lock))}
    assert environment_python(record) == tmp_path / "harness" / "environment" / "bin" / "python"


IMPORTED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from requant.toolchain.environments import add_packages
before = list(sys.path)
add_packages(Path(sys.argv[1]))
import datasets
assert sys.path[:-1] == before
print(datasets.__version__, datasets.__file__)
"""


@pytest.fixture
def packages(locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of packages that were installed."""
    monkeypatch.setattr("requant.toolchain.environments.ROOM_DATASETS", 1)
    lock, record = locks / "datasets.lock", tmp_path / "datasets" / "packages.json"
    lock.write_text(wheel(tmp_path / "index", "datasets", "1.0"))
    build_datasets(lock, record, tmp_path / "log")
    return record


def test_packages_beside_the_environment(packages: Path, locks: Path, tmp_path: Path) -> None:
    lock = file_entry("datasets.lock", digest_file(locks / "datasets.lock"))
    tag = sys.implementation.cache_tag
    assert read_record(packages) == {"version": "1.0", "python": tag, "lock": lock}
    assert {path.name for path in packages.parent.iterdir()} == {"packages", "packages.json", ".install.lock"}
    # Where no data sets are installed: the environment has what requant needs, and nothing else.
    python = linked_environment(tmp_path / "python", ["numpy"])
    command = [python, "-c", IMPORTED, packages, ROOT / "scripts"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["1.0", str(packages.parent / "packages" / "datasets.py")], done.stderr


def test_packages_are_replaced_as_a_whole(packages: Path, locks: Path, tmp_path: Path) -> None:
    (packages.parent / "packages" / "left.py").touch()
    (locks / "datasets.lock").write_text(wheel(tmp_path / "index", "datasets", "2.0"))
    build_datasets(locks / "datasets.lock", packages, tmp_path / "log")
    assert read_record(packages)["version"] == "2.0"
    assert not (packages.parent / "packages" / "left.py").exists()


def test_packages_that_cannot_be_imported(locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requant.toolchain.environments.ROOM_DATASETS", 1)
    (locks / "datasets.lock").write_text(wheel(tmp_path / "index", "datasets", "1.0", "import nowhere\n"))
    record = tmp_path / "datasets" / "packages.json"
    with pytest.raises(ToolError, match="No module named 'nowhere'"):
        build_datasets(locks / "datasets.lock", record, tmp_path / "log")
    assert [path.name for path in record.parent.iterdir()] == [".install.lock"]


def test_packages_of_another_python(packages: Path) -> None:
    write_record(packages, {**read_record(packages), "python": "cpython-399"})
    before = list(sys.path)
    with pytest.raises(
        StaleError, match=r"packages\.json was made for cpython-399, this is .*: remove it and run again"
    ):
        add_packages(packages)
    assert sys.path == before


def test_packages_that_were_removed(packages: Path) -> None:
    shutil.rmtree(packages.parent / "packages")
    with pytest.raises(ToolError, match=r"packages is missing: remove .*packages\.json and run again"):
        add_packages(packages)


def test_no_room_for_packages(locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requant.toolchain.environments.ROOM_DATASETS", 10**21)
    with pytest.raises(DiskError, match="what reads data sets needs "):
        build_datasets(locks / "datasets.lock", tmp_path / "datasets" / "packages.json", tmp_path / "log")
    assert not (tmp_path / "datasets").exists()


def test_other_bytes_are_refused(locks: Path, tmp_path: Path) -> None:
    (locks / "converter.lock").write_text(f"gguf==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(
        SourceError, match=r"^converter\.lock cannot be installed, see .*: check the network, or set PIP_"
    ):
        build_converter(locks, tmp_path / "results" / "environment.json", tmp_path / "log")
    assert "DO NOT MATCH THE HASHES" in (tmp_path / "log").read_text()
    assert not (tmp_path / "results" / "environment.json").exists()


def test_no_room(locks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requant.toolchain.environments.ROOM", 10**21)
    with pytest.raises(DiskError, match="the converter's environment needs "):
        build_converter(locks, tmp_path / "results" / "environment.json", tmp_path / "log")
    assert not (tmp_path / "results").exists()


def test_a_moved_environment(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"bin/python is missing: remove .*environment\.json and run again"):
        environment_python(tmp_path / "environment.json")
