"""workflow/native: one definition of every sum, the same bits at every level; functions of libm close to the truth."""

from __future__ import annotations

import ctypes
import math
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from requant.toolchain.variants import OWN_CODE

STRICT = ["-O3", "-std=c11", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{OWN_CODE}"]
FLAGS = {"baseline": []} | (
    {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"]} if platform.machine() == "x86_64" else {}
)
CPU = set(Path("/proc/cpuinfo").read_text().split())
NEEDS = {
    "baseline": set(),
    "v3": {"avx2", "fma", "f16c"},
    "v4": {"avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
}
LEVELS = [level for level in FLAGS if NEEDS[level] <= CPU]
F32, F16, BF16 = 0, 1, 30
GROUP = {F32: 16, F16: 16, BF16: 32}
# What a test calls in one level's kernels, beside its table of functions.
WRAPPER = """
#include "kernels.h"
void multiply(const struct product *p, int thread, int threads) { KERNELS.multiply(p, thread, threads); }
double soft_max(int n, float *y, const float *x, float max) { return KERNELS.soft_max(n, y, x, max); }
void silu(int n, float *y, const float *x, const float *g) { KERNELS.silu(n, y, x, g); }
void to_half(int64_t n, uint16_t *y, const float *x) { KERNELS.to_half(n, y, x); }
void to_bfloat(int64_t n, uint16_t *y, const float *x) { KERNELS.to_bfloat(n, y, x); }
"""
FUNCTIONS = ("expf", "expm1f", "logf", "sinf", "cosf", "tanhf", "erff")
Array = np.ndarray[Any, np.dtype[Any]]


class Product(ctypes.Structure):
    """``struct product`` of kernels.h."""

    _fields_ = (
        ("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("k", ctypes.c_int64),
        ("a", ctypes.c_void_p), ("b", ctypes.c_void_p), ("lda", ctypes.c_int64), ("ldb", ctypes.c_int64),
        ("c", ctypes.c_void_p), ("ldc", ctypes.c_int64), ("type", ctypes.c_int),
    )  # fmt: skip


@pytest.fixture(scope="session")
def levels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ctypes.CDLL]:
    """The kernels of every level that this processor has."""
    folder = tmp_path_factory.mktemp("levels")
    (folder / "wrapper.c").write_text(WRAPPER)
    found = {}
    for level in LEVELS:
        library = folder / f"{level}.so"
        names = [f"-DLEVEL={level}", f"-DKERNELS=kernels_{level}"]
        sources = [str(OWN_CODE / "kernels.c"), str(folder / "wrapper.c")]
        subprocess.run(["cc", *STRICT, *FLAGS[level], *names, *sources, "-o", library], check=True)
        found[level] = ctypes.CDLL(str(library))
        found[level].soft_max.restype = ctypes.c_double
        found[level].soft_max.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float]
    return found


@pytest.fixture(scope="session")
def libm(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Our functions under names that a test can reach."""
    folder = tmp_path_factory.mktemp("math")
    wrappers = [f"float own_{name}(float x) {{ return {name}(x); }}" for name in FUNCTIONS]
    wrappers.append("float own_powf(float x, float y) { return powf(x, y); }")
    wrappers.append("float own_sincosf(float x, float *c) { float s; sincosf(x, &s, c); return s; }")
    (folder / "wrapper.c").write_text('#include "math.c"\n' + "\n".join(wrappers))
    library = folder / "math.so"
    builtin = [f"-fno-builtin-{name}" for name in (*FUNCTIONS, "powf", "sincosf")]
    subprocess.run(["cc", *STRICT, *builtin, folder / "wrapper.c", "-o", library], check=True)
    return ctypes.CDLL(str(library))


def pointer(array: Array) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def stored(values: Array, kind: int) -> Array:
    """Values as elements of a type; bfloat16 by cutting off, which is as good as any other choice of inputs."""
    values = values.astype(np.float32)
    if kind == BF16:
        return (values.view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(np.float16).view(np.uint16) if kind == F16 else values


def widened(elements: Array, kind: int) -> Array:
    if kind == BF16:
        return (elements.astype(np.uint32) << 16).view(np.float32)
    return elements.view(np.float16).astype(np.float32) if kind == F16 else elements


def multiply(library: ctypes.CDLL, a: Array, b: Array, kind: int, threads: int = 1) -> Array:
    """Every row of ``a`` by every row of ``b``; shape [rows of b, rows of a]."""
    out = np.full((len(b), len(a)), np.nan, np.float32)
    k = a.shape[1]
    product = Product(len(a), len(b), k, pointer(a), pointer(b), k, k, pointer(out), len(a), kind)
    for thread in reversed(range(threads)):
        library.multiply(ctypes.byref(product), thread, threads)
    return out


def by_definition(a: Array, b: Array, kind: int) -> np.float32:
    """The dot product of two rows as kernels.c defines it, one operation at a time."""
    a, b = widened(a, kind), widened(b, kind)
    size = GROUP[kind]
    lanes = np.zeros(16, np.float32)
    for start in range(0, len(a), size):
        x, y = np.zeros(size, np.float32), np.zeros(size, np.float32)
        x[: len(a[start : start + size])] = a[start : start + size]
        y[: len(b[start : start + size])] = b[start : start + size]
        for part in range(size // 16):
            left, right = x[part :: size // 16], y[part :: size // 16]
            if kind == F32:
                lanes = left * right + lanes
            else:
                lanes = (left.astype(np.float64) * right.astype(np.float64) + lanes.astype(np.float64)).astype("f4")
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return np.float32(lanes[0])


def rows(generator: np.random.Generator, count: int, k: int, kind: int) -> Array:
    """Values of very different size, so that a sum in another order shows."""
    values = generator.standard_normal((count, k)) * np.exp(generator.uniform(-4, 4, (count, k)))
    return stored(values, kind)


@pytest.mark.parametrize("kind", [F32, F16, BF16])
def test_dot_product_is_the_defined_one(levels: dict[str, ctypes.CDLL], kind: int) -> None:
    generator = np.random.default_rng(1)
    for k in [*range(1, 70), 256, 1000, 2560]:
        a, b = rows(generator, 1, k, kind), rows(generator, 1, k, kind)
        expected = by_definition(a[0], b[0], kind)
        for level, library in levels.items():
            assert multiply(library, a, b, kind)[0, 0].tobytes() == expected.tobytes(), (level, k)


@pytest.mark.parametrize("kind", [F32, F16, BF16])
def test_matrix_product_is_made_of_dot_products(levels: dict[str, ctypes.CDLL], kind: int) -> None:
    """Whatever the tile, the thread and the level, each output is the dot product of its row and column."""
    generator = np.random.default_rng(2)
    for m, n, k in [(1, 2, 64), (2, 1, 64), (4, 6, 96), (5, 7, 33), (17, 97, 48), (64, 193, 130), (9, 11, 1333)]:
        a, b = rows(generator, m, k, kind), rows(generator, n, k, kind)
        expected = np.array([[by_definition(x, y, kind) for x in a] for y in b], np.float32)
        for level, library in levels.items():
            for threads in (1, 2, 3, 7):
                assert multiply(library, a, b, kind, threads).tobytes() == expected.tobytes(), (level, m, n, k, threads)


def test_levels_agree_on_extreme_numbers(levels: dict[str, ctypes.CDLL]) -> None:
    """Subnormal products, cancellation and sums far apart: where a fused operation and two roundings would differ.

    All pairs of exponents, so that the double arithmetic of the plain level meets what the hardware does.
    """
    generator = np.random.default_rng(3)
    bits = generator.integers(0, 1 << 16, (400, 256), dtype=np.uint16)
    bits = np.where((bits & 0x7F80) >= 0x5D80, bits & 0xBFFF, bits).astype(np.uint16)  # below 2^60: no overflow
    halves = np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF, bits).astype(np.uint16)
    for kind, elements in ((BF16, bits), (F16, halves)):
        results = {level: multiply(library, elements, elements[::-1].copy(), kind) for level, library in levels.items()}
        assert np.isfinite(results["baseline"]).all()
        assert len({result.tobytes() for result in results.values()}) == 1


def test_half_precision_both_ways(levels: dict[str, ctypes.CDLL]) -> None:
    generator = np.random.default_rng(4)
    floats = generator.integers(0, 1 << 32, 1 << 18, dtype=np.uint32).view(np.float32)
    steps = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    steps = steps[np.isfinite(steps)]
    ties = (steps[:-1].astype(np.float64) + np.diff(steps.astype(np.float64)) / 2).astype(np.float32)
    with np.errstate(all="ignore"):
        values = np.concatenate([floats, steps, ties, np.nextafter(ties, np.float32(0))])
        values = np.ascontiguousarray(values[~np.isnan(values)])
        expected = values.astype(np.float16).view(np.uint16)
    for level, library in levels.items():
        halves = np.zeros(len(values), np.uint16)
        library.to_half(ctypes.c_int64(len(values)), pointer(halves), pointer(values))
        assert halves.tobytes() == expected.tobytes(), level


def test_bfloat16_rounds_to_nearest_even(levels: dict[str, ctypes.CDLL]) -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7FFFFF, 0xFF800000, 0x7FA00000], np.uint32)
    expected = np.array([0x3F80, 0x3F82, 0x3F81, 0x3F80, 0x7F80, 0xFF80, 0x7FE0], np.uint16)
    for level, library in levels.items():
        found = np.zeros(len(bits), np.uint16)
        library.to_bfloat(ctypes.c_int64(len(bits)), pointer(found), pointer(bits))
        assert found.tolist() == expected.tolist(), level


def test_soft_max_and_silu_agree_and_are_close(levels: dict[str, ctypes.CDLL]) -> None:
    generator = np.random.default_rng(5)
    for n in (1, 15, 16, 17, 512, 1000):
        x = (generator.standard_normal(n) * 20).astype(np.float32)
        x[0] = -np.inf if n > 1 else 0
        y, gate = np.zeros_like(x), generator.standard_normal(n).astype(np.float32)
        results = set()
        for library in levels.values():
            total = library.soft_max(n, y.ctypes.data, x.ctypes.data, x.max())
            soft = y.tobytes()
            assert np.allclose(y, np.exp((x - x.max()).astype(np.float64)), rtol=1e-7, atol=1e-45)
            assert math.isclose(total, y.astype(np.float64).sum(), rel_tol=1e-13)
            library.silu(n, pointer(y), pointer(x), pointer(gate))
            results.add((total, soft, y.tobytes()))
        assert len(results) == 1, n
        finite = np.isfinite(x)
        wanted = x[finite] / (1 + np.exp(-x[finite].astype(np.float64))) * gate[finite]
        assert np.allclose(y[finite], wanted, rtol=2e-7, atol=1e-44)


def test_arm64_gives_the_same_bits(tmp_path: Path) -> None:
    """The same program for this processor and for ARM64, on the same numbers: every kernel and every function."""
    if not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64-static")):
        pytest.skip("g++-aarch64-linux-gnu or qemu-user-static is not installed")
    sources = [str(OWN_CODE / "kernels.c"), str(OWN_CODE / "math.c"), str(Path(__file__).with_name("native_bits.c"))]
    flags = [flag for flag in STRICT if flag not in ("-shared", "-fPIC")] + ["-static", "-DLEVEL=baseline"]
    flags += [f"-fno-builtin-{name}" for name in (*FUNCTIONS, "powf", "sincosf")]
    said = []
    for compiler, run in (("cc", []), ("aarch64-linux-gnu-gcc", ["qemu-aarch64-static"])):
        program = tmp_path / compiler
        subprocess.run([compiler, *flags, *sources, "-o", program], check=True)
        said.append(subprocess.run([*run, program], check=True, capture_output=True, text=True).stdout)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 16


TRUTH: dict[str, tuple[Callable[[float], float], float]] = {
    "expf": (math.exp, 100.0), "expm1f": (math.expm1, 80.0), "logf": (math.log, 0.0), "sinf": (math.sin, 3000.0),
    "cosf": (math.cos, 3000.0), "tanhf": (math.tanh, 12.0), "erff": (math.erf, 5.0),
}  # fmt: skip


def single(function: Callable[[float], float], x: float) -> np.float32:
    try:
        with np.errstate(over="ignore"):
            return np.float32(function(x))
    except OverflowError:
        return np.float32(np.inf)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_rounded_correctly(libm: ctypes.CDLL, name: str) -> None:
    """Off by one unit in the last place at most once in a thousand, and never by more."""
    function = getattr(libm, f"own_{name}")
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    truth, reach = TRUTH[name]
    generator = np.random.default_rng(6)
    spread = np.exp(generator.uniform(-20, 20, 4000)) * generator.choice([-1, 1], 4000)
    values = np.concatenate([generator.uniform(-reach, reach, 8000), spread[np.abs(spread) < max(reach, 1)]])
    values = np.abs(spread) if name == "logf" else values
    wrong = 0
    for x in values.astype(np.float32).tolist():
        found, expected = np.float32(function(x)), single(truth, x)
        if found != expected:
            assert found in (np.nextafter(expected, np.float32(-np.inf)), np.nextafter(expected, np.float32(np.inf))), x
            wrong += 1
    assert wrong <= len(values) / 1000


def test_powers_as_rotary_embeddings_use_them(libm: ctypes.CDLL) -> None:
    libm.own_powf.restype, libm.own_powf.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_float]
    for base in (1e4, 1e6, 5e6, 0.5, 2.0):
        for exponent in np.linspace(-2, 2, 257).astype(np.float32).tolist():
            expected = np.float32(base**exponent)
            found = np.float32(libm.own_powf(base, exponent))
            assert abs(int(found.view(np.int32)) - int(expected.view(np.int32))) <= 1, (base, exponent)


INF, NAN = math.inf, math.nan
EDGES = {
    "expf": [(-INF, 0.0), (INF, INF), (0.0, 1.0), (-200.0, 0.0), (200.0, INF), (NAN, NAN)],
    "expm1f": [(-INF, -1.0), (INF, INF), (0.0, 0.0), (NAN, NAN)],
    "logf": [(0.0, -INF), (1.0, 0.0), (INF, INF), (-1.0, NAN), (NAN, NAN), (1e-45, math.log(2**-149))],
    "sinf": [(0.0, 0.0), (INF, NAN), (NAN, NAN)],
    "cosf": [(0.0, 1.0), (-INF, NAN), (NAN, NAN)],
    "tanhf": [(INF, 1.0), (-INF, -1.0), (0.0, 0.0), (NAN, NAN)],
    "erff": [(INF, 1.0), (-INF, -1.0), (0.0, 0.0), (NAN, NAN)],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_edges(libm: ctypes.CDLL, name: str) -> None:
    function = getattr(libm, f"own_{name}")
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    for x, expected in EDGES[name]:
        found = function(x)
        assert (math.isnan(found) and math.isnan(expected)) or found == np.float32(expected), (x, found)
