"""Our own converter: the BF16 GGUF that llama.cpp's would make of a checkpoint of a known layout, without torch."""

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory

from requant.conversion.metadata import read_texts
from requant.conversion.writer import COMMIT, Conversion, conversion
from requant.documents.pins import TABLE, read_pins
from requant.formats.gguf import Header, Tensor, padded, read_header
from requant.formats.gguf_regions import regions
from requant.formats.safetensors import INDEX, SUFFIX, read_checkpoint
from requant.ground.digests import Digest, publish
from requant.ground.disk import require_space
from requant.ground.errors import FormatError, UnsupportedError
from requant.ground.programs import WorkFolder, work_folder
from requant.ground.progress import progress
from requant.ground.text import printable
from requant.pipeline.describe import Description, Piece, examine, require_finite
from requant.places.place import LocalPlace, Place
from requant.toolchain.gguf_py import HeaderRequest, write_header
from requant.toolchain.quantizers import kept_tree


def require_known_tree(commit: str) -> None:
    """Refuse a llama.cpp whose converter is not the one that is followed.

    Raises:
        UnsupportedError: naming both commits.
    """
    if commit != COMMIT:
        raise UnsupportedError(f"requant writes what llama.cpp {COMMIT[:12]} writes, not {commit[:12]}")


def convert_folder(folder: Path, out: Path) -> Digest:
    """Convert the checkpoint in ``folder`` to the new GGUF ``out``, which gets its name once it is whole.

    Raises:
        UnsupportedError: when requant does not know how to write what upstream's converter would.
        FormatError, SourceError: when the checkpoint is damaged.
    """
    [pin] = [pin for pin in read_pins(TABLE, "the pin table").toolchains.values() if pin.commit == COMMIT]
    name = folder.resolve().name
    if not name.isprintable():
        raise FormatError(
            f"{printable(str(folder))} has a name that does not print, and the GGUF would bear it: rename it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        LocalPlace(folder, str(folder)) as place,
        TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary,
        work_folder(Path(temporary) / "convert") as work,
    ):
        found = open_conversion(place)
        require_space(work.path, sum(found.nbytes(tensor) for tensor in found.tensors), out.name)
        for file in place.names:
            work.link(folder / file, f"{name}/{file}")
        description = write_gguf(work, found, name, kept_tree(pin), out.name, work.path / "log")
        require_finite(description, f"the weights of {folder}")
        publish(work.path / out.name, out)
    return description.digest


def checkpoint_place(source: Path) -> LocalPlace:
    """The folder of ``source``, the record beside a checkpoint's files; to be closed."""
    return LocalPlace(source.parent, source.parent.as_posix())


def open_conversion(place: Place) -> Conversion:
    """What upstream's converter would write for the checkpoint in ``place``; raises as ``writer.conversion``."""
    shards = [name for name in place.names if "/" not in name and name.startswith("model") and name.endswith(SUFFIX)]
    if INDEX not in place.names and len(shards) != 1:
        raise UnsupportedError(f"{place.shown} holds {len(shards)} files model*{SUFFIX} and no {INDEX}")
    shard = INDEX if INDEX in place.names else shards[0]
    return conversion(read_texts(place), read_checkpoint(place, shard))


def write_gguf(work: WorkFolder, found: Conversion, name: str, tree: Path, out: str, log: Path) -> Description:
    """Write the file ``out`` into the work folder, where ``name`` is the checkpoint's folder, and say what is in it.

    ``tree`` is the proven llama.cpp whose gguf-py writes the header. The digests are taken while the bytes pass.

    Raises:
        FormatError: when gguf-py does not recognise the tokenizer, or a file is damaged.
        ToolError: when it refuses the model.
    """
    tensors = [(tensor, found.shape(tensor), found.type(tensor).name) for tensor in found.tensors]
    request = HeaderRequest(
        name, found.plan.architecture, found.parameters, found.tokenizer, found.last, tensors, found.pre
    )
    start = write_header(work, tree, request, log)
    path = work.path / out
    with path.open("w+b", buffering=0) as file:
        file.write(start)
        file.truncate(padded(len(start)) + sum(padded(found.nbytes(tensor)) for tensor in found.tensors))
        header = read_header(path)
        with progress(header.size, "converting to BF16", "B", scale=True) as bar:

            def advance(size: int) -> None:
                bar.update(size)

            return examine(header, _written(found, header, start, file), advance)


def _written(
    found: Conversion, header: Header, start: bytes, file: FileIO
) -> Iterator[tuple[int, Tensor | None, Piece]]:
    """The bytes of the whole file, in order, each written before it is given."""
    for position, end, tensor in regions(header):
        if tensor is None:
            # The header with the padding behind it, or padding alone: the file is zero where nothing was written.
            yield position, None, start[position:].ljust(end - position, b"\0")
            continue
        at = position
        for data in found.data(tensor.name):
            file.seek(at)
            rest = data.data
            while rest:
                rest = rest[file.write(rest) :]
            yield at, tensor, data.data
            at += data.nbytes
