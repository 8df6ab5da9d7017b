"""requant.ground.processors: the name and the abilities of a processor, as systems tell of them."""

from pathlib import Path

import pytest

from requant.ground.processors import Processor, read_processor

TOLD = {
    "x86-64": ("model name\t: A  CPU: fast\nflags\t\t: fma avx2\n\nmodel name\t: B\n", Processor("A  CPU: fast", frozenset({"fma", "avx2"}))),
    "ARM64, which has no name": ("processor\t: 0\nFeatures\t: asimd sve\n", Processor("unknown", frozenset({"asimd", "sve"}))),
    "an empty name": ("model name\t: \n", Processor("unknown", frozenset())),
    "nothing": (None, Processor("unknown", frozenset())),
}  # fmt: skip


@pytest.mark.parametrize(("text", "found"), TOLD.values(), ids=list(TOLD))
def test_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, found: Processor) -> None:
    monkeypatch.setattr("platform.processor", lambda: "")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert read_processor(tmp_path / "cpuinfo") == found
