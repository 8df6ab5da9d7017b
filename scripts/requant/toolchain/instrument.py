"""A program of llama.cpp on one inference backend: whatever runs a model, and the proof of what ran it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from requant.ground.programs import Run, WorkFolder
from requant.toolchain.backend import CUDA_LIBRARY, Backend, explain_level
from requant.toolchain.build import Built, open_built

ALL_LAYERS = ("-ngl", "999")


@dataclass(frozen=True)
class Instrument:
    """A built ``program``, the ``backend`` that it loads, and what it may use."""

    program: Built
    backend: Built
    run: Run

    @classmethod
    def open(cls, tool: Path, backend: Path, run: Run) -> Self:
        """Open both build records; raises as ``open_built``."""
        return cls(open_built(tool), open_built(backend), run)

    @property
    def commit(self) -> str:
        """The commit of llama.cpp that the program was built from."""
        return str(self.program.document["commit"])

    @property
    def variant(self) -> str:
        """The variant that computes."""
        return str(self.backend.document["variant"])

    @property
    def offload(self) -> tuple[str, ...]:
        """Options that put the model on the GPU, where the backend has one."""
        return ALL_LAYERS if CUDA_LIBRARY in self.backend.files else ()

    def measure(
        self, work: WorkFolder, command: Sequence[str], watch: Callable[[str], bool | None] | None = None
    ) -> tuple[Backend, int]:
        """Run a recorded command in ``work``, and prove that the backend did it; ``watch`` is ``WorkFolder.run``'s.

        The command must make the program verbose enough to name what it loads.

        Returns:
            what it said of the backend, and its peak memory in bytes.

        Raises:
            ToolError: when the program fails, or ran on something else.
        """
        said = Backend()

        def follow(line: str) -> bool | None:
            said.watch(line)
            return watch(line) if watch else None

        self.backend.link(work)
        peak = self.program.run(work, command, self.run, watch=follow, explain=explain_level)
        said.prove(command[0], self.backend, work.path)
        return said, peak
