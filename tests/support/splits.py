"""Splitting GGUF files: by the real llama-gguf-split, and by hand, also as no honest writer would."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from requant.formats.gguf import Tensor, padded, read_header
from requant.toolchain.build import find_compilers
from requant.toolchain.variants import STRICT, variant
from support.checkout import TOOLCHAINS
from support.gguf_files import gguf_bytes, pair, string, tensor
from support.workplace import TOOLCHAIN

U16, I32 = 2, 5


@dataclass(frozen=True)
class Splitter:
    """llama-gguf-split."""

    program: Path

    @classmethod
    def built(cls, folder: Path) -> Splitter:
        """Its one file, of the pinned source, with the libraries that the demo's tools were built with: two seconds."""
        place, program = TOOLCHAINS / TOOLCHAIN, folder / "llama-gguf-split"
        libraries = place / "strict" / "bin"
        command = [find_compilers(variant(STRICT))["c++"], "-std=c++17"]
        command += [f"-I{place / 'source' / part}" for part in ("include", "ggml/include", "common")]
        command += [str(place / "source" / "tools" / "gguf-split" / "gguf-split.cpp"), "-o", str(program)]
        command += [f"-L{libraries}", f"-Wl,-rpath,{libraries}"]
        command += [f"-l:lib{name}.so.0" for name in ("llama-common", "llama", "ggml", "ggml-base")]
        subprocess.run(command, check=True)
        return cls(program)

    def split(self, path: Path, folder: Path, *options: str, stem: str | None = None) -> list[Path]:
        """Let it split a file with ``options``; gives the parts."""
        folder.mkdir(parents=True, exist_ok=True)
        self._run("--split", *options, path, folder / (stem or path.stem))
        return sorted(folder.glob(f"{stem or path.stem}-0*-of-*.gguf"))

    def merge(self, part: Path, out: Path) -> Path:
        """Let it join all parts again, of which ``part`` is the first."""
        self._run("--merge", part, out)
        return out

    def _run(self, *arguments: str | Path) -> None:
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def split_keys(number: int, count: int, tensors: int) -> list[bytes]:
    """What llama-gguf-split writes into a part."""
    return [
        pair("split.no", U16, struct.pack("<H", number)),
        pair("split.tensors.count", I32, struct.pack("<i", tensors)),
        pair("split.count", U16, struct.pack("<H", count)),
    ]


def split(path: Path, folder: Path, groups: Sequence[int], stem: str | None = None) -> list[Path]:
    """Cut a GGUF of alignment 32 into parts with so many tensors each, byte for byte as llama-gguf-split does.

    The header's pairs are copied as they stand; a group of 0 is a first part without tensors.
    """
    header, data = read_header(path), path.read_bytes()
    assert header.alignment == 32 and sum(groups) == len(header.tensors)
    keys = data[24 : _end_of_keys(header.tensors, data)]
    tensors, parts = iter(header.tensors), []
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(groups):
        mine = [next(tensors) for _ in range(size)]
        pairs = split_keys(number, len(groups), len(header.tensors))
        whole = [keys, *pairs] if number == 0 else pairs
        counts = size, len(pairs) + (len(header.metadata) if number == 0 else 0)
        part = folder / f"{stem or path.stem}-{number + 1:05}-of-{len(groups):05}.gguf"
        part.write_bytes(gguf_bytes(whole, [*_infos(mine)], b"".join(_contents(mine, data)), counts=counts))
        parts.append(part)
    return parts


def _end_of_keys(tensors: Sequence[Tensor], data: bytes) -> int:
    """Where the tensors' own entries begin."""
    first = tensors[0]
    start = string(first.name) + struct.pack(f"<I{len(first.shape)}QI", len(first.shape), *first.shape, int(first.type))
    return data.rindex(start, 0, min(each.offset for each in tensors))


def _infos(tensors: Iterable[Tensor]) -> Iterable[bytes]:
    offset = 0
    for each in tensors:
        yield tensor(each.name, each.shape, int(each.type), offset)
        offset += padded(each.nbytes)


def _contents(tensors: Iterable[Tensor], data: bytes) -> Iterable[bytes]:
    for each in tensors:
        found = data[each.offset : each.offset + each.nbytes]
        yield found + bytes(padded(len(found)) - len(found))
