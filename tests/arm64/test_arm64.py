"""ARM64 gives the very bytes that x86-64 gives: the model, the importance matrix, every quant, the whole release.

``make test-arm64`` shows it without ARM hardware. llama.cpp's tools and the portable backend are cross-compiled by
Debian's GCC, the converter runs in Debian's ARM64 Python with ARM64 wheels, and qemu executes all of them; the
workflow around them is the ordinary one. The model is the demo's, the calibration two short chunks.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from requant.pipeline.tiny_shape import TINY_FILES
from support.checkout import TOOLCHAINS
from support.workplace import TINY, TOOLS, Workplace, digests, prepare

KINDS = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_XS")
SHORT = {**TINY["calibration"], "chunks": 2, "context": 64, "batch": 64, "ubatch": 64}
RECIPE = {
    **{key: value for key, value in TINY.items() if key != "evaluation"},
    "conversion": "upstream", "quants": list(KINDS), "calibration": SHORT,
}  # fmt: skip
"""Upstream's converter, which is what runs as an ARM64 program; nothing measured, since ctypes would load our library."""
BUILT = re.compile(r"\] \d\d:\d\d (building|installing) ")
# How an ELF file of 64 bits begins, and what stands at byte 18 when it is for AArch64.
ELF, MACHINE = b"\x7fELF\x02\x01", (183).to_bytes(2, "little")
GENERATE = """
import json, platform, sys
from pathlib import Path
from requant.pipeline.tiny_model import write_tiny_model
from requant.pipeline.tiny_shape import TinyShape
assert platform.machine() == "aarch64"
write_tiny_model(Path("tree"), Path("Tiny-Qwen3"), TinyShape(**json.loads(sys.argv[1])))
"""


def test_the_programs_are_for_arm64(built: Path) -> None:
    files = [
        *(built / "strict" / "bin").iterdir(),
        built / "portable" / "libggml-cpu.so",
        built / "lanes" / "libggml-lanes.so",
    ]
    elf = {path.name: path.read_bytes()[:20] for path in files if path.suffix != ".json"}
    assert {*TOOLS, "libggml-base.so.0", "libllama.so.0", "libggml-cpu.so", "libggml-lanes.so"} <= elf.keys()
    assert all(head.startswith(ELF) and head.endswith(MACHINE) for head in elf.values()), elf


def test_the_generated_model(demo: Workplace, python: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").symlink_to(TOOLCHAINS / TINY["toolchain"] / "source")
    subprocess.run([python, "-c", GENERATE, json.dumps(TINY["model"]["generate"])], cwd=tmp_path, check=True)
    x86 = digests(demo.results / "generated")
    assert digests(tmp_path / "Tiny-Qwen3") == {name: x86[name] for name in TINY_FILES}


def test_the_release(arm64: Workplace, tmp_path: Path) -> None:
    x86 = prepare(tmp_path / "x86-64", RECIPE)
    arm64.write(RECIPE)
    x86.run()
    output = arm64.run()
    # What the workflow builds would be for this machine.
    assert "] " in output and not BUILT.search(output), output
    found, expected = made(arm64), made(x86)
    names = {"Tiny-Qwen3.gguf", "imatrix.gguf", *(f"Tiny-Qwen3-{kind}.gguf" for kind in KINDS)}
    assert names | {"manifest.json", "README.md", "SHA256SUMS"} <= found.keys()
    assert found == expected
    # The tool is given the lanes by the dynamic linker of the processor that it is made for.
    logs = [(arm64.results / "logs" / f"quantize_{kind}.log").read_text() for kind in KINDS if kind != "Q8_0"]
    assert all("requant: lanes, level baseline: " in log for log in logs)


def made(place: Workplace) -> dict[str, str]:
    """Digests of the release and of the BF16 GGUF that it is made from."""
    found = {**digests(place.results / "bf16" / "converted"), **digests(place.release)}
    return {name: digest for name, digest in found.items() if not name.startswith(".")}
