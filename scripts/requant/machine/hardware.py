"""The machine itself: system, processor, cores, memory, and GPUs."""

import os
import platform
import sys
from collections.abc import Set
from pathlib import Path

from requant.ground.cgroups import memory_limit
from requant.ground.cores import cores
from requant.ground.errors import ToolError
from requant.ground.gpus import GPU, gpus
from requant.ground.processors import CPUINFO, read_facts, read_processor
from requant.ground.text import in_units
from requant.machine.finding import Finding, State
from requant.toolchain.build import missing_for

LEVELS = {
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
    "x86-64-v2": {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"},
}
"""What each level adds to those below, by the names of /proc/cpuinfo; from the psABI, https://gitlab.com/x86-psABIs."""
ARM64 = {"asimd": "NEON", "asimddp": "dot products", "i8mm": "I8MM", "bf16": "BF16", "sve": "SVE"}
"""What tells ARM64 processors apart, by the names of /proc/cpuinfo."""
PROCESSORS = ("x86_64", "aarch64", "arm64")
MEMORY_OF_A_COMPILER = 10**9
"""Bytes; the largest of llama.cpp's files take about so much."""
MEMINFO = Path("/proc/meminfo")


def system() -> Finding:
    """The operating system and the kind of processor."""
    found = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform == "linux" and platform.machine() in PROCESSORS:
        return Finding("system", State.OK, found)
    return Finding("system", State.MISSING, f"{found}: releases are made on Linux, on x86-64 or ARM64; audits run here")


def processor(cpuinfo: Path = CPUINFO) -> Finding:
    """How far its instructions go; all levels compute the same bytes, a lower one takes longer."""
    name, flags = read_processor(cpuinfo)
    if platform.machine() != "x86_64":
        extensions = ", ".join(shown for flag, shown in ARM64.items() if flag in flags) or "extensions unknown"
        return Finding("processor", State.OK, f"{name}, {extensions}")
    found = level(flags)
    slow = ": calibration takes longer than from x86-64-v3 on, and the fused arithmetic cannot be audited"
    limited = found in ("x86-64", "x86-64-v2") and bool(flags)
    return Finding("processor", State.LIMITED if limited else State.OK, f"{name}, {found}{slow if limited else ''}")


def level(flags: Set[str]) -> str:
    """The highest level of x86-64 whose instructions are all there, and those of the levels below."""
    found = "x86-64"
    for name, added in reversed(LEVELS.items()):
        if not added <= flags:
            break
        found = name
    return found


def usable_cores() -> Finding:
    """Cores that the system and the container let us have."""
    count, there = cores(), os.cpu_count() or 1
    why = "" if count == there else ", as the system or a container allows"
    return Finding("cores", State.OK, f"{count} of {there}{why}: --cores {count}")


def memory(meminfo: Path = MEMINFO) -> Finding:
    """What is free on the machine; of a container's limit nobody reads here how much of it is used."""
    facts = {key: int(value.split()[0]) * 1024 for key, value in read_facts(meminfo).items() if value.endswith("kB")}
    if "MemTotal" not in facts:
        return Finding("memory", State.OK, "unknown: this system does not tell")
    limit = memory_limit()
    total = min(facts["MemTotal"], limit or facts["MemTotal"])
    free = min(facts.get("MemAvailable", total), total)
    whole = total == facts["MemTotal"]
    known, bound = f"{in_units(free)} free of {in_units(total)}", f"at most {in_units(free)}, as a container allows"
    said = known if whole else bound
    if free >= cores() * MEMORY_OF_A_COMPILER:
        return Finding("memory", State.OK, said)
    fewer = max(1, free // MEMORY_OF_A_COMPILER)
    return Finding("memory", State.LIMITED, f"{said}: compilers may be killed, build with --cores {fewer}")


def graphics() -> tuple[Finding, list[GPU]]:
    """The GPUs, and which variants of llama.cpp calibrate and serve on them."""
    try:
        found = gpus()
    except ToolError as error:
        return Finding("gpu", State.LIMITED, str(error)), []
    if not found:
        return Finding("gpu", State.OK, "none that an NVIDIA driver shows; the default path needs none"), []
    shown = "; ".join(f"{gpu.name}, compute capability {gpu.capability}, {_memory(gpu)}" for gpu in found)
    why = missing_for(found[0].variant)
    line = f"{shown}: {why}" if why else f"{shown}: variant {found[0].variant}"
    return Finding("gpu", State.LIMITED if why else State.OK, line), found


def _memory(gpu: GPU) -> str:
    return "memory shared with the processor" if gpu.memory is None else in_units(gpu.memory)
