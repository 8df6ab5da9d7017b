"""What verbs take, and how they hand out what they found."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from requant.documents.file_names import MANIFEST
from requant.documents.reports import write_document
from requant.ground.canonical import canonical
from requant.ground.text import from_units, in_units
from requant.places.pages import require_here

STANDARD_OUTPUT = Path("-")
LOOKED_FOR = (MANIFEST, ".gguf", ".dat", ".imatrix", ".safetensors")
"""How the names end of what an audit looks for beside a file: our manifest, models, importance matrices."""
OF_THE_SYSTEM = ("/dev/", "/proc/")
LEAST_RATE = 100_000
"""Bytes per second. Of many connections each waits for its turn, and servers end those that take nothing for long."""


class Here(click.Path):
    """A file or folder of this machine. An address is refused with the way to fetch what it names."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; a path that exists under such a name is no address."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if isinstance(value, str) and not path.exists():
            require_here(value)
        return path


PATH = Here()


class Output(click.Path):
    """A file to write. A folder, or a place where nothing can be written, is refused before the work begins."""

    def __init__(self, *, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, writable=True, allow_dash=allow_dash, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The path; missing folders are made when it is written."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if path == STANDARD_OUTPUT and self.allow_dash:
            return path
        link = str(path.readlink()) if path.is_symlink() else ""
        if link.startswith(OF_THE_SYSTEM) or (path.exists() and not path.is_file()):
            # It would be replaced, not written into.
            told = ", or - for standard output" if self.allow_dash else ""
            self.fail(f"{path} is no file but a device or the like: name another file{told}", param, ctx)
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            self.fail(f"{path} cannot be written, because of {folder}: name another file", param, ctx)
        return path


def as_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete what may be a file here, or may lie elsewhere."""
    return [CompletionItem(incomplete, type="file")]


as_json = click.option(
    "--json", "out", metavar="FILE", type=Output(allow_dash=True),
    help="Write what was found to FILE, as JSON; with - to standard output, in place of the text.",
)  # fmt: skip


def _rate(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Bytes per second, from a number with a decimal unit."""
    if value is None:
        return None
    found = from_units(value.removesuffix("/s"))
    if found is None or found < LEAST_RATE:
        told = f"{value!r} is no rate: write bytes per second, from {in_units(LEAST_RATE)} on, such as 2.5MB"
        raise click.BadParameter(told, ctx, param)
    return found


at_most = click.option(
    "--max-rate", metavar="RATE", callback=_rate, help="Bytes per second to read over a network at most, such as 2.5MB."
)


def keep_inputs(inputs: Iterable[str | Path | None], outputs: Iterable[Path | None]) -> None:
    """Refuse to write over what is read, or one output over another.

    What is read is a named file, by any name, its other parts, any file of a named folder, and what is looked for
    beside a named file without being named: a manifest, models, importance matrices.

    Raises:
        UsageError: naming the file.
    """
    from requant.formats.gguf_parts import part_names

    named = [Path(each) for each in inputs if each is not None]
    others = [path.with_name(name) for path in named for name in part_names(path.name) if name != path.name]
    read, written = [*named, *others], [out for out in outputs if out is not None and out != STANDARD_OUTPUT]
    places = [out.parent.resolve() / out.name for out in written]
    if twice := [out for number, out in enumerate(written) if places[number] in places[:number]]:
        raise click.UsageError(f"{twice[0]} is to be written twice: name another file for one of the two")
    for out in written:
        if out.exists() and any(_reads(path, out) for path in read):
            raise click.UsageError(f"{out} is read by this command: name another file to write")


def _reads(path: Path, out: Path) -> bool:
    """Whether ``out``, which exists, is or may be read where ``path`` is named."""
    try:
        if not path.exists():
            return False
        beside = path.is_file() and path.resolve().parent == out.resolve().parent
        looked_for = out.resolve().name.endswith(LOOKED_FOR)
        return path.samefile(out) or out.resolve().is_relative_to(path.resolve()) or (beside and looked_for)
    except OSError:
        return False  # too long for a name, and so an address or nothing at all


def hand_out(text: str, document: Mapping[str, Any], out: Path | None) -> None:
    """Print ``text`` for people, unless the document goes there, and write the document if that is asked for."""
    if out == STANDARD_OUTPUT:
        click.echo(canonical(document), nl=False)
        return
    # Who made the text has asked whether it may be in colour (FORCE_COLOR, NO_COLOR): nothing is to be taken away.
    click.echo(text, color=True)
    if out is not None:
        write_document(out, document)
