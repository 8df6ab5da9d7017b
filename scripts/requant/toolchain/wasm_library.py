"""llama.cpp's own quantization code as a WebAssembly module, which needs no compiler; the package carries it.

Core WebAssembly rounds every product and every sum, so the module computes in the strict arithmetic on every machine.
It is ``ggml.c`` and ``ggml-quants.c``, unpatched, built by ``requant.toolchain.wasm_module``. It can reach nothing: of
what a program may ask of the system (WASI) every function ends the call.
"""

import atexit
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from requant import DATA
from requant.formats.ggml import Arithmetic, Bytes, Floats, GGMLType, row_bytes
from requant.ground.cores import cores
from requant.ground.errors import StaleError, ToolError, UnsupportedError

MODULE = DATA / "upstream" / "quantizer.wasm"
COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
SHA256 = "4830d228bf44f48363cd3b32432cffb6f5379119c0d8aa1fde172e9845ad136b"
"""The llama.cpp that the module is made of, and the module's digest; ``make wasm`` says both."""
PIECE = 1 << 18
"""Weights that lie in an instance's memory at a time; a row may be longer."""
ALIGNMENT = 16


class WasmLibrary:
    """The module, in the strict arithmetic: a ``requant.quantization.quantizer.Quantizer``.

    It has as many instances, each with a memory of its own, as threads call it at a time; at most one for each core.
    """

    arithmetic = Arithmetic.STRICT

    def __init__(self, module: Path = MODULE) -> None:
        self.path = module
        self._idle: list[_Instance] = []
        self._turn = threading.BoundedSemaphore(cores())
        self._lock = threading.Lock()

    def quantize(self, kind: GGMLType, weights: Floats, importance: Floats | None = None) -> Bytes:
        """Quantize rows; as in ``Quantizer``.

        Raises:
            UnsupportedError: when a row takes 2 GiB or more.
        """
        rows, columns = weights.shape
        source = np.ascontiguousarray(weights, np.float32)
        out = np.empty((rows, row_bytes(kind, columns)), np.uint8)
        used = np.empty(0, np.float32) if importance is None else np.ascontiguousarray(importance, np.float32)
        with self._instance() as instance:
            for part in _pieces(rows, columns):
                with instance.filled(source[part], used, room=out[part].nbytes) as (given, by, made):
                    by = by if used.size else 0
                    instance.call("quantize", int(kind), given, made, len(source[part]), columns, by)
                    out[part] = instance.bytes(made, out[part].nbytes).reshape(out[part].shape)
        return out

    def dequantize(self, kind: GGMLType, data: Bytes, columns: int) -> Floats:
        """The weights that quantized rows stand for; as in ``Quantizer``, raises as ``quantize``."""
        source = np.ascontiguousarray(data)
        out = np.empty((len(source), columns), np.float32)
        if kind is GGMLType.F32:
            return source.view(np.float32).reshape(out.shape)
        with self._instance() as instance:
            for part in _pieces(*out.shape):
                with instance.filled(source[part], room=out[part].nbytes) as (given, made):
                    instance.call("dequantize", int(kind), given, made, out[part].size)
                    out[part] = instance.bytes(made, out[part].nbytes).view(np.float32).reshape(out[part].shape)
        return out

    @contextmanager
    def _instance(self) -> Iterator["_Instance"]:
        """An instance that no other thread uses. One whose call was ended is not used again."""
        with self._turn:
            with self._lock:
                instance = self._idle.pop() if self._idle else self._new()
            yield instance
            with self._lock:
                self._idle.append(instance)

    @cached_property
    def _new(self) -> Callable[[], "_Instance"]:
        """What makes instances: the compiled module."""
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise StaleError(f"{self.path} is not the module that belongs to this version: install requant again")
        try:
            import wasmtime  # noqa: F401 - whether it is there at all
        except (ImportError, OSError, RuntimeError) as error:
            raise ToolError(
                f"wasmtime cannot be used here ({error}): pip install wasmtime, or install a C compiler"
            ) from error
        return partial(_Instance, *_compiled(content))


@lru_cache(maxsize=1)
def _compiled(content: bytes) -> tuple[Any, Any, Any]:
    """Engine, linker and module, once in a process: compiling takes long, and no engine gives back all its memory."""
    from wasmtime import Engine, Linker, Module

    engine = Engine()
    module, linker = Module(engine, content), Linker(engine)
    linker.define_unknown_imports_as_traps(module)
    return engine, linker, module


# While Python is whole: what lives longer cannot be freed without a word from wasmtime.
atexit.register(_compiled.cache_clear)


class _Instance:
    """One instance of the module, for one thread at a time."""

    def __init__(self, engine: Any, linker: Any, module: Any) -> None:
        from wasmtime import Store

        self._store = Store(engine)
        self._exports = linker.instantiate(self._store, module).exports(self._store)
        self.call("_initialize")

    def call(self, name: str, *arguments: int) -> int:
        """Call a function of the module.

        Raises:
            ToolError: when llama.cpp ended it.
        """
        from wasmtime import Trap, WasmtimeError

        try:
            found: int = self._exports[name](self._store, *arguments)
        except (Trap, WasmtimeError) as error:
            said = str(error).splitlines()[-1].strip()
            raise ToolError(f"llama.cpp gave up in {name}{arguments} ({said}): report it with these numbers") from error
        return found

    def bytes(self, address: int, size: int) -> Bytes:
        """Some of its memory, as it is until the next call."""
        memory = self._exports["memory"].get_buffer_ptr(self._store, size, address)
        found: Bytes = np.frombuffer(memory, np.uint8)
        return found

    @contextmanager
    def filled(self, *parts: Bytes | Floats, room: int) -> Iterator[list[int]]:
        """Copies of some arrays in its memory, and ``room`` bytes behind them: the addresses of all.

        Raises:
            UnsupportedError: when there is no room.
        """
        offsets = np.cumsum([0, *(-(-part.nbytes // ALIGNMENT) * ALIGNMENT for part in parts)]).tolist()
        size = offsets[-1] + room
        start = self.call("allocate", size) if size < 1 << 31 else 0
        if not start:
            raise UnsupportedError(
                f"a row takes {size:,} bytes, too many for a WebAssembly module: install a C compiler, such as g++"
            )
        for offset, part in zip(offsets, parts, strict=False):
            self.bytes(start + offset, part.nbytes)[:] = part.reshape(-1).view(np.uint8)
        yield [start + offset for offset in offsets]
        self.call("release", start)


def _pieces(rows: int, columns: int) -> Iterator[slice]:
    height = max(1, PIECE // max(1, columns))
    return (slice(start, start + height) for start in range(0, rows, height))
