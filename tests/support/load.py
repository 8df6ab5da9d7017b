"""Many audits: one after another in one process, and at once against one hub."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from requant.formats.ggml import GGMLType as T
from requant.toolchain.wasm_library import WasmLibrary
from support.hub import LoopbackHub
from support.quants import Tensors, numbers, written

ROWS, COLUMNS, COUNT = 200, 256, 12
QUANT, WEIGHTS = "hf://some/Small-GGUF/quant.gguf", "hf://org/Small/weights.gguf"


def write_pair(folder: Path) -> tuple[Path, Path]:
    """The folders of a quant and of its weights."""
    quantizer = WasmLibrary()
    weights: Tensors = {}
    quant: Tensors = {}
    for layer in range(COUNT):
        name, rows, kind = f"blk.{layer}.attn_q.weight", numbers(layer, ROWS, COLUMNS), T.Q4_K if layer % 2 else T.Q8_0
        weights[name] = T.F32, (COLUMNS, ROWS), rows.tobytes()
        quant[name] = kind, (COLUMNS, ROWS), quantizer.quantize(kind, rows).tobytes()
    for side, tensors in (("quant", quant), ("weights", weights)):
        (folder / side).mkdir()
        written(folder / side / f"{side}.gguf", tensors)
    return folder / "quant", folder / "weights"


def serve(hub: LoopbackHub, pair: tuple[Path, Path]) -> LoopbackHub:
    """Put the two on a hub as ``QUANT`` and ``WEIGHTS``."""
    hub.add_model("some/Small-GGUF", pair[0])
    hub.add_model("org/Small", pair[1])
    return hub


class Held(NamedTuple):
    """What this process holds: file descriptors, threads, and bytes of memory."""

    descriptors: int
    threads: int
    memory: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the descriptor of the listing is among them
        return cls(descriptors, len(os.listdir("/proc/self/task")), pages * os.sysconf("SC_PAGE_SIZE"))  # noqa: PTH208


def growth(work: Callable[[int], object], times: int) -> Held:
    """What doing ``work`` so often holds more than doing it a fifth as often."""
    for number in range(times // 5):
        work(number)
    before = Held.now()
    for number in range(times // 5, times):
        work(number)
    after = Held.now()
    return Held(*(now - then for now, then in zip(after, before, strict=True)))
