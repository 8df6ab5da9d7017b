"""The variants cuda-smNN, really built: the library holds code for its one architecture, all of it, and nothing else.

``make test-cuda`` runs this with the compiler of ``envs/cuda.lock``, for those that ``SM`` names, by default GB10's; no GPU
and no installed toolkit is needed. A build takes half an hour on two cores; its folder is kept, so a run that was stopped
goes on where it was.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from requant.documents.pins import read_pins
from requant.ground.programs import Run
from requant.pipeline.recipe import DEFAULT_PINS
from requant.toolchain.build import build_backend, open_built
from requant.toolchain.tree import fetch_toolchain
from requant.toolchain.variants import variant
from support.checkout import ROOT, TOOLCHAINS

FOLDER = ROOT / "build" / "test-cuda"
TOOLCHAIN = "llama.cpp-0c1e57098bba"
VARIANTS = [f"cuda-sm{sm}" for sm in os.environ.get("SM", "121").split()]
ELF = re.compile(r"^ELF file\s+\d+: .+\.(sm_\w+)\.cubin$", re.MULTILINE)


@pytest.fixture(scope="module")
def toolkit() -> Path:
    """The wheels' folder (``site-packages/nvidia/cu13``) in the shape that nvcc and CMake look for, made of links."""
    named = os.environ.get("REQUANT_CUDA_WHEELS", "")
    if not Path(named, "bin", "nvcc").is_file():
        pytest.fail(f"REQUANT_CUDA_WHEELS={named!r} holds no bin/nvcc: run make test-cuda")
    wheels, folder = Path(named).resolve(), FOLDER / "toolkit"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("include", "nvvm"):
        _link(wheels / name, folder / name)
    # Not one link: nvcc takes bin/.. for its toolkit, and through a link that would be the wheels' folder.
    for program in (wheels / "bin").iterdir():
        _link(program, folder / "bin" / program.name)
    for library in (wheels / "lib").iterdir():
        _link(library, folder / "lib64" / library.name)
        if ".so." in library.name:
            # Wheels carry no names for the linker.
            _link(library, folder / "lib64" / f"{library.name.partition('.so.')[0]}.so")
    _link(folder / "lib64", folder / "lib")
    return folder


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


def listed(toolkit: Path, file: Path) -> tuple[list[str], list[str]]:
    """The architecture of every piece of machine code in ``file``, and its pieces of PTX."""
    cuobjdump = str(toolkit / "bin" / "cuobjdump")
    elf, ptx = (
        subprocess.run([cuobjdump, option, str(file)], capture_output=True, text=True, check=True).stdout
        for option in ("--list-elf", "--list-ptx")
    )
    # Entries written in a way not known here must not count as nothing.
    assert len(ELF.findall(elf)) == len(elf.splitlines()), elf
    return ELF.findall(elf), ptx.splitlines()


@pytest.mark.parametrize(
    ("targets", "machine_code", "pieces_of_ptx"),
    [
        ("-gencode=arch=compute_121a,code=sm_121a", ["sm_121a"], 0),
        ("-gencode=arch=compute_121,code=sm_121", ["sm_121"], 0),
        ("-gencode=arch=compute_120a,code=[sm_120a,compute_120a]", ["sm_120a"], 1),
        ("-gencode=arch=compute_120,code=compute_120", [], 1),
    ],
)
def test_cuobjdump_tells_architectures_apart(
    toolkit: Path, tmp_path: Path, targets: str, machine_code: list[str], pieces_of_ptx: int
) -> None:
    (tmp_path / "twice.cu").write_text("__global__ void twice(float *x) { x[threadIdx.x] *= 2; }\n")
    nvcc = [str(toolkit / "bin" / "nvcc"), targets, "-c", "twice.cu", "-o", "twice.o"]
    subprocess.run(nvcc, cwd=tmp_path, check=True)
    elf, ptx = listed(toolkit, tmp_path / "twice.o")
    assert (elf, len(ptx)) == (machine_code, pieces_of_ptx)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_library_holds_code_of_its_architecture_only(
    toolkit: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    architecture = str(variant(name).architecture)
    monkeypatch.setenv("CUDACXX", str(toolkit / "bin" / "nvcc"))
    monkeypatch.setenv("CUDAToolkit_ROOT", str(toolkit))
    pin = read_pins(ROOT / DEFAULT_PINS).toolchains[TOOLCHAIN]
    place = TOOLCHAINS / pin.name
    if not (place / "source.json").exists():
        place = FOLDER / pin.name
    if not (place / "source.json").exists():
        fetch_toolchain(pin, place / "source", place / "source.json", FOLDER / "fetch.log")
    folder = FOLDER / pin.name / name
    build_backend(place / "source", name, folder, pin.commit, Run(len(os.sched_getaffinity(0)), FOLDER / "build.log"))

    built, library = open_built(folder / "build.json"), folder / "libggml-cuda.so"
    assert set(built.files) == {"libggml-cpu.so", "libggml-cuda.so"}
    assert built.document["commit"] == pin.commit
    assert built.document["definitions"]["CMAKE_CUDA_ARCHITECTURES"] == architecture
    assert built.document["flags"] == list(variant(name).flags)
    assert "release 13.0, V13.0." in built.document["compilers"]["cuda"]

    elf, ptx = listed(toolkit, library)
    assert set(elf) == {f"sm_{architecture.removesuffix('-real')}"}
    assert ptx == []
    # A source file compiled without its kernels would leave the list above as clean as it is.
    assert len(elf) == len(list((folder / "build").rglob("*.cu.o"))) > 100
    # Nor may it name folders of this machine.
    assert str(ROOT).encode() not in library.read_bytes()
    # It loads, without a driver: the wheels hold all it needs beside ggml, and no symbol is missing.
    for name in ("cudart", "cublasLt", "cublas"):
        ctypes.CDLL(str(toolkit / "lib64" / f"lib{name}.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(folder / "build" / "out" / "bin" / library.name))
