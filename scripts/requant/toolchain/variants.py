"""The arithmetics that llama.cpp is built in.

The tools and ``libggml-base``, which quantizes, are built once, strict: no contraction of products and
sums into fused operations, so quantization gives the same bytes for every compiler and processor. The
tools are built without any inference backend. A variant adds one: a library that the tools load at run
time from their work folder (llama.cpp's ``GGML_BACKEND_DL``). ``fused`` is ``libggml-base`` once more, for audits only:
it contracts as GCC does for processors with fused multiply-add, and so repeats what default builds for ARM64 make.
``lanes`` is no build of llama.cpp: its searches of scales, strict, with a block in every lane of a vector.
"""

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from requant import DATA
from requant.ground.errors import RecipeError

STRICT = "strict"
FUSED = "fused"
PORTABLE = "portable"
LANES = "lanes"
NATIVE = "native"
OWN_CODE = (DATA / "native").resolve()
"""Our own kernels and math, as a CMake project that takes llama.cpp's in, and what the lanes share with it."""
ON_ARM64 = platform.machine() in ("aarch64", "arm64")
INFERENCE = "portable|native|cuda-sm[0-9]{2,3}"
"""The names of the variants that run models, as a pattern; the schemas repeat it."""
CUDA = re.compile(r"cuda-sm([0-9]{2,3})")
# Architectures whose specific features need the "a" suffix; the rest are built for the plain number.
ARCHITECTURE_SPECIFIC = ("90", "100", "103", "110", "120", "121")

COMMON: Mapping[str, str] = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    "GGML_BACKEND_DL": "ON",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_BLAS": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
}
NO_TOOLS: Mapping[str, str] = {"LLAMA_BUILD_COMMON": "OFF", "LLAMA_BUILD_SERVER": "OFF", "LLAMA_BUILD_TOOLS": "OFF"}
# llama.cpp's AMX kernels crash on some quants, see https://github.com/ggml-org/llama.cpp/issues/20824, and do not
# serve BF16.
WITHOUT_AMX = "-U__AMX_INT8__"
# GGML_NATIVE excludes GGML_BACKEND_DL; the compiler's own "native" says the same.
NO_X86_LEVELS: Mapping[str, str] = {f"GGML_{level}": "OFF" for level in ("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2")}


@dataclass(frozen=True)
class Variant:
    """How one variant is configured: CMake definitions, compiler flags, and the libraries it gives.

    ``own_code`` is the folder of a CMake project that takes llama.cpp's in, where the variant links objects of ours.
    ``gcc`` is true where it is GCC's contraction that is wanted, whatever else is built with.
    """

    name: str
    definitions: Mapping[str, str]
    flags: tuple[str, ...]
    backends: tuple[str, ...]
    own_code: Path | None = None
    gcc: bool = False

    @property
    def sources(self) -> list[Path]:
        """Our own source files that the variant is built with."""
        own = self.own_code
        return sorted(path for path in {*own.iterdir(), OWN_CODE / "processor.h"} if path.is_file()) if own else []

    @property
    def architecture(self) -> str | None:
        """The CUDA architecture as CMake names it, such as ``121a-real``; None for CPU variants."""
        return self.definitions.get("CMAKE_CUDA_ARCHITECTURES")


def variant(name: str) -> Variant:
    """Look a variant up by name: ``strict``, ``lanes``, ``fused``, ``portable``, ``native`` or ``cuda-smNN``.

    Raises:
        RecipeError: for any other name.

    >>> [variant(name).architecture for name in ("cuda-sm121", "cuda-sm89", "portable")]
    ['121a-real', '89-real', None]
    """
    if name == STRICT:
        return Variant(name, {**COMMON, "GGML_CPU": "OFF"}, ("-ffp-contract=off",), ())
    if name == LANES:
        # How it is compiled stands in workflow/native/lanes/CMakeLists.txt.
        return Variant(name, {"CMAKE_BUILD_TYPE": "Release"}, (), ("lanes",), OWN_CODE / "lanes")
    if name == FUSED:
        # ARM64 has fused multiply-add from the start; on x86-64 it comes with level v3.
        level = () if ON_ARM64 else ("-march=x86-64-v3",)
        return Variant(name, {**COMMON, **NO_TOOLS, "GGML_CPU": "OFF"}, (*level, "-ffp-contract=fast"), (), gcc=True)
    if name == PORTABLE:
        # The compiler flags differ between ggml's code and ours, and stand in workflow/native/CMakeLists.txt.
        plain = {"GGML_LLAMAFILE": "ON", "GGML_CPU_REPACK": "OFF"}
        return Variant(name, {**COMMON, **NO_TOOLS, **NO_X86_LEVELS, **plain}, (), ("cpu",), OWN_CODE)
    native = ("-mcpu=native",) if ON_ARM64 else ("-march=native", WITHOUT_AMX)
    if name == NATIVE:
        return Variant(name, {**COMMON, **NO_TOOLS, **NO_X86_LEVELS, "GGML_LLAMAFILE": "ON"}, native, ("cpu",))
    match = CUDA.fullmatch(name)
    if not match:
        raise RecipeError(f"{name!r} is not a variant; write strict, lanes, fused, portable, native or cuda-smNN")
    suffix = "a" if match[1] in ARCHITECTURE_SPECIFIC else ""
    cuda = {
        "GGML_CUDA": "ON",
        "CMAKE_CUDA_ARCHITECTURES": f"{match[1]}{suffix}-real",
        # Virtual memory management would link the driver library, which build machines lack.
        "GGML_CUDA_NO_VMM": "ON",
        "GGML_CUDA_NCCL": "OFF",
        # No symbol table: nvcc's temporary files, named after its process, would make every build another file.
        "CMAKE_MODULE_LINKER_FLAGS": "-s",
    }
    return Variant(
        name, {**COMMON, **NO_TOOLS, **NO_X86_LEVELS, **cuda, "GGML_LLAMAFILE": "ON"}, native, ("cpu", "cuda")
    )
