"""The demo's weights quantized as others would, and the audit's core run on the result.

``program`` compiles llama.cpp's own code with somebody else's compiler; ARM64 programs run under qemu.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import pytest

from requant.audit.weights.journal import Journal
from requant.audit.weights.material import Material
from requant.audit.weights.sweep import Sweep, audit_tensors
from requant.conversion.weights import GGUFWeights, Weights
from requant.documents.pins import ToolchainPin, read_pins
from requant.formats.ggml import PLAIN, Arithmetic, Bytes, Floats, GGMLType, Indices, row_bytes
from requant.formats.gguf import Header, read_header
from requant.formats.imatrix import importance, read_imatrix
from requant.formats.ranged import LocalFile
from requant.toolchain.ggml_library import GGMLLibrary
from requant.toolchain.quantizers import open_quantizer
from requant.toolchain.variants import LANES, variant
from support.checkout import ROOT, TOOLCHAINS, alone, shared_cache
from support.gguf_files import gguf_bytes, tensor

PINS: Mapping[str, ToolchainPin] = read_pins(ROOT / "config" / "pins.yaml").toolchains
NEWER, OLDER = "llama.cpp-0c1e57098bba", "llama.cpp-4227c9be4268"
MAIN = ROOT / "tests" / "support" / "quantizer" / "main.c"
ALIGNMENT = 32

DEFINITIONS = ("-DGGML_SCHED_MAX_COPIES=4", "-D_XOPEN_SOURCE=600", "-D_GNU_SOURCE", "-DNDEBUG")
WITHOUT_THE_REST = ("-static", "-Wl,--unresolved-symbols=ignore-all")
ARM64_STRICT = ("aarch64-linux-gnu-gcc", "-O3", "-ffp-contract=off")
COMPILERS = {
    "x86-64 GCC": ("gcc", "-O3", *WITHOUT_THE_REST),
    "ARM64 GCC": ("aarch64-linux-gnu-gcc", "-O3", *WITHOUT_THE_REST),
    "x86-64-v3 clang": ("clang", "-O3", "-march=x86-64-v3", *WITHOUT_THE_REST),
    "ARM64 strict": (*ARM64_STRICT, *WITHOUT_THE_REST),
    "ARM64 lanes": (*ARM64_STRICT, "-DLANES", "-DLEVEL=baseline", *WITHOUT_THE_REST),
    "ARM64 clang": ("clang", "--target=aarch64-linux-gnu", "-O3", *WITHOUT_THE_REST),
}
"""Compilers as llama.cpp's own build calls them by default: with contraction wherever they like it."""

Quantize = Callable[[GGMLType, Floats, "Floats | None"], Bytes]
Tensors = dict[str, tuple[GGMLType, tuple[int, ...], bytes]]


def numbers(seed: int, *shape: int) -> Floats:
    """Numbers of the size that weights have."""
    return (np.random.default_rng(seed).standard_normal(shape) / 50).astype(np.float32)


@cache
def kept(arithmetic: Arithmetic, toolchain: str = NEWER) -> GGMLLibrary:
    """A library whose source and build are shared with the demo's toolchains and kept for the next run."""
    with pytest.MonkeyPatch.context() as patch, alone():
        patch.setenv("XDG_CACHE_HOME", str(shared_cache()))
        return open_quantizer(arithmetic, PINS[toolchain])


@dataclass(frozen=True)
class Program:
    """A program that quantizes in the arithmetic of the compiler that made it."""

    command: tuple[str, ...]

    def quantize(self, kind: GGMLType, weights: Floats, importance: Floats | None = None) -> Bytes:
        """Quantize rows, as ``Quantizer.quantize`` does."""
        with ThreadPoolExecutor(2) as pool:
            parts = pool.map(lambda part: self._run(kind, part, importance), np.array_split(weights, 2))
            return np.concatenate(list(parts))

    def _run(self, kind: GGMLType, weights: Floats, importance: Floats | None) -> Bytes:
        rows, columns = weights.shape
        with tempfile.TemporaryDirectory() as folder:
            source, out, by = (str(Path(folder, name)) for name in ("weights", "out", "importance"))
            weights.astype("<f4").tofile(source)
            if importance is not None:
                importance.astype("<f4").tofile(by)
            arguments = [str(int(kind)), str(rows), str(columns), source, "-" if importance is None else by, out]
            subprocess.run([*self.command, *arguments], check=True)
            return np.fromfile(out, np.uint8).reshape(rows, row_bytes(kind, columns))


@cache
def program(compiler: str) -> Program:
    """llama.cpp's quantization compiled by one of ``COMPILERS``; kept in ``build/tests``."""
    command = COMPILERS[compiler]
    runner = ("qemu-aarch64-static",) if compiler.startswith("ARM64") else ()
    library = ("aarch64-linux-gnu-gcc",) if runner else ()  # clang links its C library, too
    if missing := [name for name in (command[0], *runner, *library) if not shutil.which(name)]:
        pytest.skip(f"{' and '.join(missing)}: not installed")
    kept(Arithmetic.STRICT)
    own = _lanes(command)
    made_of = b"".join(path.read_bytes() for path in (MAIN, *own)) + repr(command).encode()
    digest = hashlib.sha256(made_of).hexdigest()[:12]
    folder = TOOLCHAINS / NEWER / "foreign"
    built = folder / f"{compiler.replace(' ', '-')}-{digest}"
    with alone():
        if not built.exists():
            _compile(command, own, folder, built)
    return Program((*runner, str(built)))


def _lanes(command: tuple[str, ...]) -> list[Path]:
    """The lanes' own files, for programs that quantize with them."""
    return (
        sorted(path for path in variant(LANES).sources if path.suffix in (".c", ".h")) if "-DLANES" in command else []
    )


def _compile(command: tuple[str, ...], own: Sequence[Path], folder: Path, built: Path) -> None:
    tree = TOOLCHAINS / NEWER / "source" / "ggml"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ggml-version.h").write_text('#define GGML_VERSION "0"\n#define GGML_COMMIT "0"\n')
    sources = [str(MAIN), *(str(tree / "src" / name) for name in ("ggml.c", "ggml-quants.c"))]
    sources += [str(path) for path in own if path.name in ("kinds.c", "dispatch.c")]
    includes = [f"-I{part}" for part in (folder, tree / "include", tree / "src", *{path.parent for path in own})]
    whole = built.with_suffix(".new")
    subprocess.run(
        [*command, *DEFINITIONS, *includes, *sources, "-lm", "-o", str(whole)], check=True, capture_output=True
    )
    whole.rename(built)


def opened(path: Path) -> tuple[LocalFile, Header]:
    """A GGUF and its header."""
    return LocalFile(path), read_header(path)


def contents(path: Path) -> Tensors:
    """Type, shape and bytes of every tensor."""
    file, header = opened(path)
    with file:
        return {each.name: (each.type, each.shape, file.read(each.offset, each.nbytes)) for each in header.tensors}


def written(out: Path, tensors: Tensors) -> Path:
    """Write a GGUF of these tensors and nothing else."""
    infos, data = [], b""
    for name, (kind, shape, content) in tensors.items():
        infos.append(tensor(name, shape, kind, len(data)))
        data += content + bytes(-len(content) % ALIGNMENT)
    out.write_bytes(gguf_bytes((), infos, data))
    return out


def cut(source: Path, out: Path, name: str, rows: int) -> Path:
    """Copy a GGUF's tensors, but of one the first rows only; as rows are independent, a quant's cut is the cut's quant."""
    tensors = contents(source)
    kind, shape, data = tensors[name]
    tensors[name] = kind, (shape[0], rows), data[: rows * row_bytes(kind, shape[0])]
    return written(out, tensors)


def replaced(source: Path, out: Path, changes: Mapping[str, bytes]) -> Path:
    """Copy a GGUF with the data of some tensors replaced by as many bytes."""
    shutil.copyfile(source, out)
    places = {each.name: each for each in read_header(source).tensors}
    with out.open("r+b") as file:
        for name, data in changes.items():
            assert len(data) == places[name].nbytes, name
            file.seek(places[name].offset)
            file.write(data)
    return out


def requantized(
    source: Path, weights: Path, importances: Mapping[str, Floats], quantize: Quantize, out: Path,
    types: Mapping[GGMLType, GGMLType] = {},  # nothing writes to it
) -> Path:  # fmt: skip
    """A quant's tensors, the quantized ones made again by ``quantize`` from an unquantized GGUF; in other ``types``."""
    tensors, (file, header) = contents(source), opened(weights)
    with file:
        named = GGUFWeights(file, header)
        for name, (kind, shape, _) in tensors.items():
            if kind not in PLAIN:
                made = types.get(kind, kind)
                tensors[name] = made, shape, quantize(made, whole(named, name), importances.get(name)).tobytes()
    return written(out, tensors)


def read_importances(path: Path) -> dict[str, Floats]:
    """What llama-quantize multiplies with, by weight, from an importance matrix."""
    return {name: importance(entry)[0] for name, entry in read_imatrix(path).entries.items()}


def whole(weights: Weights, name: str) -> Floats:
    """All rows of a tensor."""
    return weights.rows(name, np.arange(prod(weights.shapes[name][1:])))


def audited(
    subject: Path, weights: Weights, importances: Mapping[str, Floats], selected: Mapping[str, Indices] | None = None,
    journal: Journal | None = None,
) -> Sweep:  # fmt: skip
    """Run the core of the audit."""
    file, header = opened(subject)
    with file:
        material = Material(file, header, weights, importances, kept)
        return audit_tensors(material, selected, None, lambda _: None, journal=journal)
