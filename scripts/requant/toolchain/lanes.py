"""The lanes ahead of llama.cpp's own functions: how a tool is given them, and the proof that it used them.

Each lane of a vector searches the scales of one block, in the order of llama.cpp's own code, so the bytes are its own,
and come many times faster (``workflow/native/lanes``, ``docs/how-it-works.md``). While they work, one row in a hundred
is quantized by llama.cpp's own function too.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from requant.ground.errors import ToolError
from requant.ground.programs import WorkFolder
from requant.toolchain.build import open_built

LIBRARY = "libggml-lanes.so"
THERE = re.compile(r"^requant: lanes, level \w+: \d+ rows, ")
DIFFER = re.compile(r"^requant: (lanes of level .* differ from llama\.cpp .*)$", re.MULTILINE)


class Lanes:
    """The lanes of one build, for one run of one tool."""

    def __init__(self, record: Path) -> None:
        """``record`` is the build record.

        Raises:
            StaleError: when the library is not the one that was built.
        """
        self._built = open_built(record)
        self._there = False

    def join(self, work: WorkFolder) -> Mapping[str, str]:
        """Link the library into the work folder; gives what the tool must find in its environment."""
        self._built.link(work)
        return {"LD_PRELOAD": f"./{LIBRARY}"}

    def watch(self, line: str) -> None:
        """Follow one line of what the tool says."""
        self._there = self._there or THERE.match(line) is not None

    def prove(self, tool: str) -> None:
        """Check that the tool ended with the lanes still there.

        Raises:
            ToolError: when it never loaded them.
        """
        if not self._there:
            raise ToolError(
                f"{tool} did not load {LIBRARY}: write `quantization: strict` into the recipe to do without it"
            )


def explain_difference(said: str) -> str | None:
    """The sentence of a row in which the lanes and llama.cpp differ."""
    if match := DIFFER.search(said):
        return f"{match[1]}; write `quantization: strict` into the recipe, and report this"
    return None
