"""What a quant is derived with: ``libggml-base`` in two arithmetics, strict and fused, and lanes ahead of strict.

They are built on first use. An auditor needs only eleven source files of llama.cpp, built in half a minute, and kept in
the user's cache folder (``XDG_CACHE_HOME``). Where that half minute is not worth it, or nothing can be built, the
strict arithmetic comes from the WebAssembly module in the package. None is believed: before one is used it must give,
for a fixed set of weights, the bytes that its arithmetic is known to give (``FINGERPRINTS``).
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from requant.documents.pins import ToolchainPin
from requant.formats.ggml import Arithmetic, GGMLType
from requant.ground.cores import cores
from requant.ground.disk import kept
from requant.ground.errors import DiskError, FormatError, SourceError, ToolError
from requant.ground.locks import make_once
from requant.ground.processors import CPUINFO, read_facts
from requant.ground.programs import Run
from requant.toolchain.build import LIBRARY, build_backend, build_library, missing_for, open_built
from requant.toolchain.ggml_library import GGMLLibrary
from requant.toolchain.lanes_library import LanesLibrary
from requant.toolchain.tree import fetch_toolchain, proven_tree
from requant.toolchain.variants import LANES, ON_ARM64
from requant.toolchain.wasm_library import COMMIT, WasmLibrary

logger = logging.getLogger(__name__)

FINGERPRINTS = {
    Arithmetic.STRICT: "cd966a5c457a97f7e3774c6e683daa195e1a94eed8df9f36733d30b0e5be8c47",
    Arithmetic.FUSED: "be6869be96fa01a8d007c73f45d35b740b882118325d4bd243ff951df922029f",
}
"""SHA-256 of what each arithmetic makes of the fixed weights. Measured: ``strict`` with GCC 12 and clang 14 on x86-64,
``fused`` equal to GCC 12 at its default settings for ARM64."""
FINGERPRINT_TYPES = (
    GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q4_K, GGMLType.Q5_K, GGMLType.Q6_K, GGMLType.Q8_0, GGMLType.IQ4_XS,
    GGMLType.IQ4_NL, GGMLType.Q4_0, GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1,
)  # fmt: skip
ROWS, COLUMNS = 64, 512
SMALL = 1 << 29
"""Weights up to which the module has derived them before a library is fetched, built and as far."""
UNBUILT = (SourceError, FormatError, DiskError, ToolError)
"""Why a library cannot be built here, though there is a compiler: no network or room, a source that is another one."""

Own = GGMLLibrary | WasmLibrary
"""llama.cpp's own code."""
Library = Own | LanesLibrary


def open_quantizer(arithmetic: Arithmetic, pin: ToolchainPin, work: int | None = None) -> Own:
    """One arithmetic of one llama.cpp: the library where it is built, else the module, or a library that is built now.

    Args:
        arithmetic: which one.
        pin: which llama.cpp.
        work: how many weights are to be derived, where that is known.

    Where the library cannot be built and the module is of the same llama.cpp, that one stands in, and it is said.

    Raises:
        SourceError, FormatError: when the source cannot be had or is another one.
        DiskError: when there is no room for it.
        StaleError: when the source, the library or the module was changed since.
        ToolError: when there is no compiler, the processor is too old, or what was opened computes otherwise.
    """
    record, small = _record(arithmetic, pin), work is not None and work <= SMALL
    if not record.exists() and _is_packaged(arithmetic, pin) and (small or missing_for(arithmetic.value)):
        return _module()
    require_processor(arithmetic)
    if not record.exists():
        if why := missing_for(arithmetic.value):
            raise ToolError(why)
        try:
            make_once(record, lambda: _build(arithmetic, pin, record.parent))
        except UNBUILT as error:
            if not _is_packaged(arithmetic, pin):
                raise
            logger.warning("going on with the WebAssembly module, more slowly: %s", error)
            return _module()
    open_built(record)
    library = GGMLLibrary(arithmetic, record.with_name(LIBRARY))
    _prove(library, record.with_name(LIBRARY), "install GCC 11 or newer, remove that folder")
    return library


def _module() -> WasmLibrary:
    module = WasmLibrary()
    _prove(module, module.path, "install g++ or another version of wasmtime")
    return module


def open_lanes(pin: ToolchainPin, work: int, opener: Callable[[Arithmetic], Own]) -> LanesLibrary | None:
    """The lanes ahead of the strict arithmetic where they are built, or are worth building for ``work`` weights.

    ``opener`` opens that arithmetic. Where they cannot be built it goes without, and says so: they are for speed alone.

    Raises:
        SourceError, FormatError, DiskError, StaleError, ToolError: as ``open_quantizer``.
    """
    strict, record = _record(Arithmetic.STRICT, pin), toolchains() / pin.name / LANES / "build.json"
    if not (record.exists() and strict.exists()) and (work <= SMALL or missing_for(LANES)):
        return None
    own = opener(Arithmetic.STRICT)
    if isinstance(own, WasmLibrary):
        return None  # Nothing could be built a moment ago.
    try:
        make_once(record, lambda: build_backend(kept_tree(pin), LANES, record.parent, pin.commit, _run(pin, LANES)))
    except UNBUILT as error:
        logger.warning("going on without lanes, more slowly: %s", error)
        return None
    open_built(record)
    lanes = LanesLibrary(own, record.with_name(f"libggml-{LANES}.so"))
    _prove(lanes, record.parent, "remove that folder")
    return lanes


def lacking(arithmetic: Arithmetic, pin: ToolchainPin) -> str | None:
    """Why this machine has no such arithmetic, and what to do; ``None`` where it can be opened."""
    if _is_packaged(arithmetic, pin):
        return None
    try:
        require_processor(arithmetic)
    except ToolError as error:
        return str(error)
    return None if _record(arithmetic, pin).exists() else missing_for(arithmetic.value)


def tool_quantizer(record: Path) -> GGMLLibrary:
    """The library that a built llama-quantize works with; ``record`` is the build record of that tool.

    Raises:
        StaleError: when it is not the library that was built.
    """
    built = open_built(record)
    [name] = [name for name in built.files if name.startswith(LIBRARY)]
    return GGMLLibrary(Arithmetic.STRICT, built.folder / name)


def toolchains() -> Path:
    """Where toolchains are kept between audits."""
    return kept("toolchains")


def require_processor(arithmetic: Arithmetic) -> None:
    """Refuse an arithmetic that this processor has no instructions for.

    Raises:
        ToolError: saying so; running it would end the process.
    """
    if arithmetic is not Arithmetic.FUSED or ON_ARM64:
        return
    flags = read_facts(CPUINFO).get("flags", "").split()
    if flags and not {"avx2", "fma"} <= set(flags):
        raise ToolError("this processor lacks AVX2 or FMA, so the fused arithmetic cannot run: use another machine")


def kept_tree(pin: ToolchainPin) -> Path:
    """The proven source of a llama.cpp, fetched where it is not there yet.

    Raises:
        SourceError, FormatError: when it cannot be had or is another one.
        StaleError: when it was changed since.
    """
    folder = toolchains() / pin.name
    source = folder / "source.json"

    def fetch() -> None:
        logger.info("fetching llama.cpp %s, once", pin.commit[:12])
        fetch_toolchain(pin, folder / "source", source, folder / "logs" / "fetch_toolchain.log")

    make_once(source, fetch)
    return proven_tree(source)


def _record(arithmetic: Arithmetic, pin: ToolchainPin) -> Path:
    return toolchains() / pin.name / "library" / arithmetic / "build.json"


def _is_packaged(arithmetic: Arithmetic, pin: ToolchainPin) -> bool:
    return arithmetic is WasmLibrary.arithmetic and pin.commit == COMMIT


def _build(arithmetic: Arithmetic, pin: ToolchainPin, target: Path) -> None:
    tree = kept_tree(pin)
    logger.info("building libggml-base in the %s arithmetic, once", arithmetic)
    # The variant that computes so has the same name.
    build_library(tree, arithmetic.value, target, pin.commit, _run(pin, f"library_{arithmetic}"))


def _run(pin: ToolchainPin, log: str) -> Run:
    return Run(cores(), toolchains() / pin.name / "logs" / f"{log}.log")


def _prove(library: Library, path: Path, advice: str) -> None:
    """Raise ``ToolError`` with ``advice`` when a library does not compute in its arithmetic."""
    found = fingerprint(library)
    if found != FINGERPRINTS[library.arithmetic]:
        raise ToolError(
            f"{path} does not compute in the {library.arithmetic} arithmetic (fingerprint {found[:16]}): "
            f"{advice} and run again"
        )


def fingerprint(library: Library) -> str:
    """SHA-256 of the bytes that the library makes of fixed weights, in every type, without and with importances."""
    # Philox gives these words on every machine; sums of four bytes look enough like weights.
    stream = np.random.Philox(key=2507)
    octets = stream.random_raw(ROWS * COLUMNS // 2).view(np.uint8).reshape(-1, 4).astype(np.int32)
    weights = ((octets.sum(1) - 510) / np.float32(4096)).astype(np.float32).reshape(ROWS, COLUMNS)
    importance = ((stream.random_raw(COLUMNS) >> np.uint64(44)) + np.uint64(1)).astype(np.float32) / np.float32(1 << 16)
    digest = hashlib.sha256()
    for kind in FINGERPRINT_TYPES:
        digest.update(library.quantize(kind, weights).tobytes())
        digest.update(library.quantize(kind, weights, importance).tobytes())
    return digest.hexdigest()
