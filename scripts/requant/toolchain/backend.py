"""Which inference backend a llama.cpp tool ran on, by what it says while it runs (``-lv 5``)."""

import re
from pathlib import Path

from requant.ground.errors import ToolError
from requant.toolchain.build import Built
from requant.toolchain.variants import PORTABLE

LOADED = re.compile(r"load_backend: loaded (\S+) backend from (.+)$")
OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")
FEATURE = re.compile(r"\b([A-Z][A-Z0-9_]+) = 1\b")
LEVEL = re.compile(r"^requant: portable arithmetic, level (\w+)$")
REFUSED = re.compile(r"^requant: (.*REQUANT_LEVEL.*)$", re.MULTILINE)
CUDA_LIBRARY = "libggml-cuda.so"


class Backend:
    """What one run said. ``features`` are those of the processor that its native bytes depend on."""

    def __init__(self) -> None:
        self.features: list[str] = []
        self._loaded: dict[str, str] = {}
        self._level: str | None = None
        self._offloaded = (0, 0)

    def watch(self, line: str) -> None:
        """Follow one line."""
        if match := LOADED.search(line):
            self._loaded[Path(match[2]).name] = match[2]
        if match := OFFLOADED.search(line):
            self._offloaded = (int(match[1]), int(match[2]))
        if match := LEVEL.match(line):
            self._level = match[1]
        if "system_info:" in line:
            self.features = sorted(set(FEATURE.findall(line)))

    def prove(self, tool: str, variant: Built, work: Path) -> None:
        """Check that ``tool`` ran on this variant, from the libraries linked into the work folder.

        Raises:
            ToolError: naming what did the work instead.
        """
        expected = {name: str(work.resolve() / name) for name in variant.files}
        if self._loaded != expected:
            found = ", ".join(sorted(self._loaded.values())) or "no library"
            raise ToolError(f"{tool} loaded {found} as backend, expected {', '.join(sorted(expected.values()))}")
        if (self._level is not None) != (variant.document["variant"] == PORTABLE):
            what = f"portable code of level {self._level}" if self._level else "no portable code"
            raise ToolError(f"{tool} ran {what} under {variant.folder}: remove that folder and run again")
        done, layers = self._offloaded
        if CUDA_LIBRARY in expected and (not layers or done != layers):
            raise ToolError(
                f"only {done} of {layers or 'all'} layers ran on the GPU: free the GPU, or calibrate with native"
            )


def explain_level(said: str) -> str | None:
    """The sentence in which the portable backend refuses a ``REQUANT_LEVEL``."""
    return match[1] if (match := REFUSED.search(said)) else None
