"""requant.toolchain.portable: real objects, built by the real cmake and ninja, each with one fault planted."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from requant.ground.errors import ToolError
from requant.toolchain.portable import check_portable, check_rounding

PROJECT = """
cmake_minimum_required(VERSION 3.28)
project(planted C)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_library(ggml-base SHARED base.c)
add_library(portable OBJECT dispatch.c)
set_target_properties(portable PROPERTIES POSITION_INDEPENDENT_CODE ON)
add_library(ggml-cpu MODULE cpu.c)
target_link_libraries(ggml-cpu PRIVATE ggml-base m)
add_dependencies(ggml-cpu portable)
target_link_options(ggml-cpu BEFORE PRIVATE $<TARGET_OBJECTS:portable> LINKER:--allow-multiple-definition)
"""
CPU = """
#include <string.h>
float base(float);
float dot(float a, float b, float c) { float s = a * b + c; memcpy(&a, &s, sizeof a); return base(a); }
"""
X86 = platform.machine() == "x86_64"
FUSED_FLAGS = "-O2 -mfma -ffp-contract=fast" if X86 else "-O2 -ffp-contract=fast"
HEADER = "immintrin.h" if X86 else "arm_neon.h"
FAULTS = {
    "a function of libm": ("float expf(float);\nfloat f(float x) { return expf(x); }", "", "calls expf, so"),
    "one that ggml does not call today": ("double cbrt(double);\ndouble f(double x) { return cbrt(x); }", "", "cbrt, so"),
    "vector code by hand": (f"#include <{HEADER}>", "", f"{HEADER}, "),
    "contraction": ("", FUSED_FLAGS, "contracts with "),
}  # fmt: skip


def program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def build(folder: Path, cpu: str, flags: str = "-O2 -ffp-contract=off", dispatch: str = "dot") -> Path:
    """Build the planted project; returns CMake's folder."""
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(PROJECT)
    (folder / "base.c").write_text("float base(float x) { return x; }")
    (folder / "dispatch.c").write_text(f"float {dispatch}(float a, float b, float c) {{ return a + b + c; }}")
    (folder / "cpu.c").write_text(cpu)
    out = folder / "out"
    cmake = [program("cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={program('ninja')}", f"-DCMAKE_C_FLAGS={flags}"]
    subprocess.run([*cmake, "-S", folder, "-B", out], check=True, capture_output=True)
    subprocess.run([program("ninja"), "-C", out], check=True, capture_output=True)
    return out


def check(out: Path) -> None:
    check_portable(out, program("ninja"), shutil.which("cc") or "cc")


def test_an_honest_build_passes(tmp_path: Path) -> None:
    check(build(tmp_path / "honest", CPU))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(tmp_path: Path, fault: str) -> None:
    code, flags, words = FAULTS[fault]
    out = build(tmp_path / "planted", CPU + code, flags or "-O2 -ffp-contract=off")
    with pytest.raises(ToolError) as error:
        check(out)
    assert words in str(error.value)
    assert str(error.value).endswith("or calibrate with native")


def test_lanes_that_contract(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or "cc"
    check_rounding(build(tmp_path / "honest", CPU), compiler, "lanes")
    with pytest.raises(
        ToolError, match=r"^the build of lanes contracts with \w+ in cpu\.c\.o: use another compiler, or do"
    ):
        check_rounding(build(tmp_path / "planted", CPU, FUSED_FLAGS), compiler, "lanes")


def test_a_function_that_replaces_nothing(tmp_path: Path) -> None:
    """An llama.cpp that calls its dot product by another name would silently use its own."""
    with pytest.raises(ToolError, match="backend lacks dot_of_old, so"):
        check(build(tmp_path / "renamed", CPU, dispatch="dot_of_old"))
