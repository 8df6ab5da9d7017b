"""requant.places.packages with the real pip against a folder as index: the pinned bytes, or one sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from requant.documents.pins import PackagePin
from requant.ground.digests import Known, digest_file
from requant.ground.errors import PinnedBytesError, RequantError, SourceError
from requant.places.packages import fetch_package
from support.wheels import serve_wheel


@pytest.fixture
def pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagePin:
    return serve_wheel(tmp_path / "index", monkeypatch)


def test_the_pinned_wheel(pin: PackagePin, tmp_path: Path) -> None:
    out = tmp_path / "results" / "package.whl"
    fetch_package(pin, "wheel", out, tmp_path / "log")
    assert digest_file(out).sha256 == pin.expected.sha256
    assert {path.name for path in out.parent.iterdir()} == {"package.whl", ".tiny-weights.download.lock"}
    assert "tiny-weights" in (tmp_path / "log").read_text().replace("_", "-")


OTHER = {
    "wrong digest": (
        {"expected": Known(1, "f" * 64)},
        PinnedBytesError,
        f"the index's tiny-weights==1.0 does not have the pinned SHA-256 {'f' * 64}, it has ",
    ),
    "wrong size": ({"expected": None}, PinnedBytesError, "tiny-weights==1.0 has "),
    "no such version": (
        {"version": "9.9"},
        SourceError,
        "tiny-weights==9.9 cannot be had from the package index: check",
    ),
    "no such project": ({"project": "absent"}, SourceError, "absent==1.0 cannot be had from the package index: check"),
}


@pytest.mark.parametrize(("change", "kind", "words"), OTHER.values(), ids=list(OTHER))
def test_other_packages(
    pin: PackagePin, tmp_path: Path, change: dict[str, object], kind: type[RequantError], words: str
) -> None:
    if "expected" in change and change["expected"] is None:
        change = {"expected": replace(pin.expected, size=1)}
    with pytest.raises(kind) as error:
        fetch_package(replace(pin, **change), "wheel", tmp_path / "out" / "p.whl", tmp_path / "log")  # type: ignore[arg-type]
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.endswith(".lock")] == []


def test_a_wheel_is_no_sdist(pin: PackagePin, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"tiny-weights==1\.0 cannot be had from the package index"):
        fetch_package(pin, "sdist", tmp_path / "out" / "p.tar.gz", tmp_path / "log")


def test_no_index(pin: PackagePin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(SourceError, match="check the network, or name a mirror in PIP_INDEX_URL"):
        fetch_package(pin, "wheel", tmp_path / "out" / "p.whl", tmp_path / "log")
