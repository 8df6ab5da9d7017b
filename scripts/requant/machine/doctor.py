"""What this machine can do, and which profile to use: every part looked at by the means of who would use it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from requant.documents.pins import TABLE, read_pins
from requant.evaluation.behaviour.sandbox import require_isolation
from requant.ground.cores import cores
from requant.ground.disk import require_space, size_of
from requant.ground.errors import DiskError, PlaceError, ToolError, UnsupportedError
from requant.ground.exit_codes import ExitCode
from requant.ground.gpus import GPU
from requant.ground.text import in_units
from requant.machine.finding import Finding, State
from requant.machine.hardware import graphics, memory, processor, system, usable_cores
from requant.machine.network import reachable
from requant.pipeline import layout
from requant.places.pages import HUGGING_FACE
from requant.toolchain.build import BUILD_SPACE, compiler_version, find_compilers, missing_for, own_program
from requant.toolchain.quantizers import toolchains
from requant.toolchain.tree import UNPACKED
from requant.toolchain.variants import NATIVE, variant

ROOM = UNPACKED + 2 * BUILD_SPACE["cpu"]
"""Bytes for llama.cpp's source and tools, and the demo's release."""
ROOM_FOR_A_REAL_MODEL = 22 * 10**9
"""Bytes that the default recipe takes, Qwen3-4B."""
GB10 = "12.1"
"""The compute capability that ``profiles/gb10`` is for."""


def examine(root: Path) -> list[Finding]:
    """Look at everything; ``root`` is the checkout, if there is one. Nothing is written, and nothing fetched."""
    pins = read_pins(TABLE, "the pin table")
    gpu, found = graphics()
    model = next(pin for pin in pins.models.values() if pin.repo is not None and pin.revision is not None)
    return [
        system(), processor(), usable_cores(), memory(), disk(), python(), workflow(root), compiler(), sandbox(), gpu,
        *reachable(next(iter(pins.toolchains.values())), model), caches(), profile(found),
    ]  # fmt: skip


def exit_code(findings: Sequence[Finding]) -> ExitCode:
    """That of the table: 0 where the default path lacks nothing, 3 where a tool, room or the network is missing."""
    return ExitCode.UNCHECKED if missing(findings) else ExitCode.OK


def missing(findings: Sequence[Finding]) -> list[str]:
    """What the default path cannot do without."""
    return [finding.what for finding in findings if finding.state is State.MISSING]


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, and one for all."""
    width, states = max(len(finding.what) for finding in findings), max(map(len, State))
    lines = [f"{finding.what:<{width}}  {finding.state:<{states}}  {finding.line}" for finding in findings]
    lacking = missing(findings)
    return "\n".join([*lines, f"missing for make demo: {', '.join(lacking)}" if lacking else "ready for make demo"])


def disk() -> Finding:
    """Room, and the right to write, in this folder."""
    here = Path.cwd()
    if not os.access(here, os.W_OK):
        return Finding("disk", State.MISSING, f"{here} may not be written to: go to a folder of yours")
    free = shutil.disk_usage(here).free
    try:
        require_space(here, ROOM, "the demo with llama.cpp")
    except DiskError as error:
        return Finding("disk", State.MISSING, str(error))
    said = f"{in_units(free)} free in {here}"
    if free < ROOM_FOR_A_REAL_MODEL:
        needed = in_units(ROOM_FOR_A_REAL_MODEL)
        return Finding("disk", State.LIMITED, f"{said}: the default recipe takes {needed}, the demo {in_units(ROOM)}")
    return Finding("disk", State.OK, said)


def python() -> Finding:
    """The interpreter, and whether it can make environments, as upstream's converter and EvalScope have."""
    found = f"Python {platform.python_version()}"
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return Finding("python", State.OK, found)
    return Finding(
        "python", State.LIMITED, f"{found} makes no environments: install venv (Debian: apt install python3-venv)"
    )


def workflow(root: Path) -> Finding:
    """The checkout, and what ``make setup`` installs."""
    if not (root / "Snakefile").exists():
        return Finding(
            "workflow", State.MISSING, "not in this installation, which audits: clone requant, run make setup"
        )
    try:
        programs = [Path(own_program(name)).name for name in ("cmake", "ninja")]
        # One on the PATH is of another environment, which lacks the rest.
        version = importlib.metadata.version("snakemake")
    except ToolError as error:
        return Finding("workflow", State.MISSING, str(error))
    except importlib.metadata.PackageNotFoundError:
        return Finding("workflow", State.MISSING, "snakemake is missing from this environment: run make setup")
    return Finding("workflow", State.OK, f"snakemake {version}, {' and '.join(programs)}")


def compiler() -> Finding:
    """What builds llama.cpp, and git, which proves its source."""
    why = missing_for(NATIVE)
    if why:
        return Finding("compiler", State.MISSING, why)
    try:
        versions = [compiler_version(path, Path.cwd()) for path in find_compilers(variant(NATIVE)).values()]
    except ToolError as error:
        return Finding("compiler", State.MISSING, f"{error}: name another compiler in CC and CXX")
    return Finding("compiler", State.OK, f"{'; '.join(versions)}; git")


def sandbox() -> Finding:
    """User namespaces, in which programs that a model wrote are run."""
    if sys.platform != "linux":
        return Finding("sandbox", State.LIMITED, "suites with code are run on Linux only")
    try:
        require_isolation()
    except (UnsupportedError, OSError) as error:
        return Finding("sandbox", State.LIMITED, f"suites with code are not run: {error}")
    return Finding("sandbox", State.OK, "user namespaces are allowed: suites with code can be run")


def caches() -> Finding:
    """What was kept of earlier runs, and how much it is; all of it may be removed."""
    try:
        HUGGING_FACE.require_endpoint()
        from huggingface_hub import constants

        kept = {"audits": toolchains().parent, "Hugging Face": Path(constants.HF_HUB_CACHE)}
    except (DiskError, PlaceError) as error:
        return Finding("caches", State.LIMITED, str(error))
    kept["builds"] = Path(layout.TOOLCHAINS).absolute()
    shown = [f"{what} {in_units(size)} in {path}" for what, path in kept.items() if (size := size_of(path))]
    return Finding("caches", State.OK, "; ".join(shown) or "empty")


def profile(found: Sequence[GPU]) -> Finding:
    """How to start the workflow here."""
    command = f".venv/bin/snakemake --cores {cores()}"
    ready = [gpu for gpu in found if missing_for(gpu.variant) is None]
    if not ready:
        return Finding("profile", State.OK, f"default, loaded by itself: {command}")
    if ready[0].capability == GB10:
        return Finding("profile", State.OK, f"gb10: {command} --workflow-profile profiles/gb10")
    sm = ready[0].variant.removeprefix("cuda-sm")
    return Finding("profile", State.OK, f"gpu: SM={sm} {command} --workflow-profile profiles/gpu")
