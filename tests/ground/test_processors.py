"""requant.ground.processors: the name and the abilities of a processor, as systems tell of them."""

from pathlib import Path

import pytest

from requant.ground.processors import Processor, read_processor

LSCPU = "#!/bin/sh\necho 'Architecture: aarch64'; echo 'Model name:   Cortex-X925'\n"
TOLD = {
    "x86-64": ("model name\t: A  CPU: fast\nflags\t\t: fma avx2\n\nmodel name\t: B\n", Processor("A  CPU: fast", frozenset({"fma", "avx2"}))),
    "ARM64, which has no name": ("processor\t: 0\nFeatures\t: asimd sve\n", Processor("unknown", frozenset({"asimd", "sve"}))),
    "an empty name": ("model name\t: \n", Processor("unknown", frozenset())),
    "nothing": (None, Processor("unknown", frozenset())),
}  # fmt: skip


@pytest.mark.parametrize(("text", "found"), TOLD.values(), ids=list(TOLD))
def test_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, found: Processor) -> None:
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setenv("PATH", str(tmp_path))
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert read_processor(tmp_path / "cpuinfo") == found


def test_where_only_numbers_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a DGX Spark, whose cores have their names from lscpu."""
    (tmp_path / "cpuinfo").write_text(TOLD["ARM64, which has no name"][0] or "")
    (tmp_path / "lscpu").write_text(LSCPU)
    (tmp_path / "lscpu").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_processor(tmp_path / "cpuinfo").name == "Cortex-X925"
