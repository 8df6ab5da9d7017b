"""What the package carries of llama.cpp, so that an audit needs no compiler: made from proven source by ``make wasm``.

    python -m requant.toolchain.wasm_module

writes ``quantizer.wasm`` and ``pre_tokenizers.json`` in ``workflow/upstream`` again, from the first llama.cpp of the
pin table. The compiler is ``ziglang`` of ``envs/test.lock``; a test builds the module in another folder and compares.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from requant.documents.pins import TABLE, read_pins
from requant.ground.digests import digest_file, named_when_whole, write_bytes
from requant.ground.programs import work_folder
from requant.toolchain.pre_tokenizers import BASE, PACKAGED, PreTokenizers
from requant.toolchain.quantizers import kept_tree
from requant.toolchain.wasm_library import MODULE, SHA256

SHIM = MODULE.with_name("quantizer.c")
COMPILE = (
    "-target", "wasm32-wasi", "-mexec-model=reactor", "-O3", "-ffp-contract=off", "-mno-nontrapping-fptoint", "-s",
    "-DNDEBUG", "-D_GNU_SOURCE", "-D_WASI_EMULATED_SIGNAL", "-lwasi-emulated-signal",
    "-Wl,-z,stack-size=1048576",
    "-I.", "-Illama.cpp/ggml/include", "-Illama.cpp/ggml/src",
    "quantizer.c", "llama.cpp/ggml/src/ggml.c", "llama.cpp/ggml/src/ggml-quants.c",
    "-o", "quantizer.wasm",
)  # fmt: skip
"""Never ``-mrelaxed-simd``: its sums may be fused. Without ``nontrapping-fptoint`` a number too large for an integer
becomes the integer that x86-64 makes of it. C leaves that open, and llama.cpp meets it in blocks of tiny weights."""
VERSION = '#define GGML_VERSION "0"\n#define GGML_COMMIT "0"\n'
"""The header that CMake would generate; no number that a quant holds depends on it."""


def build_module(tree: Path, out: Path, cache: Path, log: Path) -> None:
    """Build the module from a proven source.

    Args:
        tree: the source.
        out: where the module goes.
        cache: where zig keeps its C library between builds.
        log: what the compiler says goes there.

    Raises:
        ToolError: when ziglang is not installed, or refuses the source.
    """
    # Only zig's own C library is kept: what we compile is compiled anew.
    caches = {"ZIG_GLOBAL_CACHE_DIR": str(cache.absolute()), "ZIG_LOCAL_CACHE_DIR": "cache"}
    with TemporaryDirectory() as folder, work_folder(Path(folder) / "work") as work:
        work.link(tree, "llama.cpp")
        work.link(SHIM, SHIM.name)
        (work.path / "ggml-version.h").write_text(VERSION)
        work.run([sys.executable, "-m", "ziglang", "cc", *COMPILE], log, env=caches)
        with named_when_whole(out) as temporary:
            temporary.write_bytes((work.path / "quantizer.wasm").read_bytes())


def main() -> None:
    """Write what the package carries, and say what is to be pinned."""
    pin = next(iter(read_pins(TABLE, "the pin table").toolchains.values()))
    tree = kept_tree(pin)
    known = PreTokenizers.of_source((tree / BASE).read_text(encoding="utf-8"))
    write_bytes(PACKAGED.resolve(), known.as_json().encode())
    build_module(tree, MODULE.resolve(), tree.with_name("zig"), tree.parent / "logs" / "wasm.log")
    digest = digest_file(MODULE)
    click.echo(f"{MODULE.name}: {digest.size:,} bytes, SHA-256 {digest.sha256}, of commit {pin.commit}")
    if digest.sha256 != SHA256:
        click.echo("that is not the pinned one: write both to requant/toolchain/wasm_library.py")


if __name__ == "__main__":
    main()
