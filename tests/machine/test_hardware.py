"""requant.machine.hardware, and what it stands on: processors, cgroups and GPUs as systems tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from requant.ground import cores as ground_cores
from requant.ground.cgroups import cpu_quota, memory_limit
from requant.ground.cores import cores
from requant.ground.errors import ToolError
from requant.ground.gpus import GPU, gpus
from requant.machine.finding import State
from requant.machine.hardware import LEVELS, graphics, level, memory, processor

V2, V3, V4 = (set().union(*list(LEVELS.values())[-count:]) for count in (1, 2, 3))


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (set(), "x86-64"),
        (V2, "x86-64-v2"),
        (V3, "x86-64-v3"),
        (V4, "x86-64-v4"),
        (V4 - {"popcnt"}, "x86-64"),
        (V4 - {"fma"}, "x86-64-v2"),
        (V4 - {"avx512vl"}, "x86-64-v3"),
    ],
)
def test_levels(flags: set[str], found: str) -> None:
    """A level without one of the instructions below it is none."""
    assert level(flags) == found


PROCESSORS = {
    "x86-64-v3": ("x86_64", f"model name\t: A CPU\nflags\t\t: {' '.join(V3)}\n", State.OK, "A CPU, x86-64-v3"),
    "an old one": (
        "x86_64",
        f"model name\t: A CPU\nflags\t\t: {' '.join(V2)}\n",
        State.LIMITED,
        "A CPU, x86-64-v2: calib",
    ),
    "ARM64": ("aarch64", "processor\t: 0\nFeatures\t: fp asimd asimddp\n", State.OK, "NEON, dot products"),
}


@pytest.mark.parametrize(("machine", "cpuinfo", "state", "words"), PROCESSORS.values(), ids=PROCESSORS)
def test_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, cpuinfo: str, state: State, words: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    found = processor(tmp_path / "cpuinfo")
    assert found.state is state and words in found.line


GROUPS: dict[str, tuple[Mapping[str, str], float | None, int | None]] = {
    "none": ({}, None, None),
    "version 2": (
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
         "sys/fs/cgroup/a/b/memory.max": "1000\n"}, 1.5, 1000),
    "version 2, of a group above": (
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
         "sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/b/memory.max": "max\n"}, 0.5, None),
    "version 1": (
        {"proc/self/cgroup": "3:cpu,cpuacct:/x\n4:memory:/x\n", "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "400000",
         "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000",
         "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "2000"}, 4, 2000),
    "version 1, without limits": (
        {"proc/self/cgroup": "3:cpu:/\n4:memory:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
         "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
         "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
    "in a container that sees its own end only": (
        {"proc/self/cgroup": "3:cpu:/docker/1\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
         "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2, None),
}  # fmt: skip


@pytest.mark.parametrize(("files", "quota", "limit"), GROUPS.values(), ids=GROUPS)
def test_control_groups(tmp_path: Path, files: Mapping[str, str], quota: float | None, limit: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (quota, limit)


@pytest.mark.parametrize(("quota", "found"), [(None, 8), (16, 8), (1.5, 2), (0.1, 1)])
def test_cores_are_not_more_than_the_container_has_time_on(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, found: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(ground_cores, "cpu_quota", lambda: quota)
    assert cores() == found


def test_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requant.machine.hardware.cores", lambda: 4)
    monkeypatch.setattr("requant.machine.hardware.memory_limit", lambda: 2_500_000_000)
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    found = memory(tmp_path / "meminfo")
    assert found.state is State.LIMITED
    assert found.line == "at most 2.5 GB, as a container allows: compilers may be killed, build with --cores 2"


# GPUs, with a program in nvidia-smi's place that says what drivers say.

SMI = "#!/bin/sh\n[ \"$1\" = --query-gpu=name,compute_cap,memory.total,uuid ] || exit 2\nprintf '%s\\n' {lines}\nexit {code}\n"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDACXX", raising=False)
    return tmp_path


def driver(path: Path, *lines: str, code: int = 0) -> None:
    (path / "nvidia-smi").write_text(SMI.format(lines=" ".join(f"'{line}'" for line in lines), code=code))
    (path / "nvidia-smi").chmod(0o755)


def test_gpus(path: Path) -> None:
    assert gpus() == []
    driver(path, "NVIDIA GeForce RTX 4090, 8.9, 24564, GPU-8932f937", "NVIDIA GB10, 12.1, [N/A], GPU-0aa2")
    assert gpus() == [GPU("NVIDIA GeForce RTX 4090", "8.9", 24564 << 20), GPU("NVIDIA GB10", "12.1", None)]
    assert [gpu.variant for gpu in gpus()] == ["cuda-sm89", "cuda-sm121"]


VISIBLE: dict[str, list[int]] = {
    "": [], "-1": [], "0": [0], "2,0": [2, 0], " 1 , 0 ": [1, 0], "0,1,2": [0, 1, 2], "0,,1": [0], "0,-1,1": [0],
    "0,3,1": [0], "7": [], "all": [], "GPU-89": [0], "GPU-0a,GPU-8932f937": [2, 0], "GPU-89,1": [0, 1],
    "GPU-0": [], "1,GPU-": [1], "1,GPU-ff,0": [1], "1,1": [], "0,GPU-89": [], "MIG-c7384736": [0, 1, 2],
}  # fmt: skip
"""What CUDA shows of three GPUs, by the value of CUDA_VISIBLE_DEVICES."""


@pytest.mark.parametrize(("value", "places"), VISIBLE.items(), ids=map(repr, VISIBLE))
def test_gpus_that_are_hidden(path: Path, monkeypatch: pytest.MonkeyPatch, value: str, places: list[int]) -> None:
    driver(path, "A, 8.9, 1, GPU-8932f937", "B, 9.0, 2, GPU-0bb2", "C, 12.1, 3, GPU-0aa2")
    everything = gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert gpus() == [everything[place] for place in places]


@pytest.mark.parametrize(("line", "code"), [("Field is not a valid field", 0), ("Driver/library version mismatch", 18)])
def test_a_driver_that_does_not_tell(path: Path, line: str, code: int) -> None:
    driver(path, line, code=code)
    with pytest.raises(ToolError, match="nvidia-smi"):
        gpus()
    found, none = graphics()
    assert (found.state, none) == (State.LIMITED, [])


def test_no_driver(path: Path) -> None:
    assert graphics()[0].state is State.OK and "none" in graphics()[0].line
