"""Add the matrices of a calibration's shards up with llama-imatrix.

It adds in float32, in the order in which they are named (``load_imatrix`` in ``tools/imatrix/imatrix.cpp``, llama.cpp).
That order is the text's, so the bytes follow from the recipe, wherever and whenever a shard was computed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from requant.documents.records import Product, file_digest, file_entry, step, write_record
from requant.formats.imatrix import check_run, read_imatrix
from requant.ground.digests import digest_file, publish
from requant.ground.errors import StaleError
from requant.ground.programs import Run, work_folder
from requant.pipeline.settings import Calibration
from requant.pipeline.shards import measured
from requant.pipeline.unseen_experts import report_unseen
from requant.toolchain.build import open_built


def merge_shards(
    shards: Sequence[Product], text: str, tool: Path, settings: Calibration, out: Product, run: Run
) -> None:
    """Add the matrices of ``shards`` up, in their order, to the importance matrix ``out``.

    Args:
        shards: what ``calibrate`` made of each, in the order of the text.
        text: the name of the text that they read.
        tool: the build record of llama-imatrix.
        settings: the recipe's.
        out: the importance matrix, whose record holds the shards' steps too.
        run: what the job may use.

    Raises:
        StaleError: when a shard is not what its record says, or they do not belong together.
        FormatError: when their sum is not what the chunks of the recipe give.
        ToolError: when llama-imatrix fails.
    """
    records = [shard.read() for shard in shards]
    _require_together(shards, records, settings)
    command = _command([shard.file.name for shard in shards], settings, out.file.name)
    with work_folder(out.file.parent / "work") as work:
        for shard in shards:
            work.link(shard.file, shard.file.name)
        open_built(tool).run(work, command, run)
        imatrix = read_imatrix(work.path / out.file.name)
        check_run(imatrix, settings.chunks, settings.context, text, len(shards))
        unseen = report_unseen(imatrix, settings)
        digest = digest_file(work.path / out.file.name)
        publish(work.path / out.file.name, out.file)
    materials = {record["file"]["name"]: file_digest(record["file"]) for record in records}
    write_record(
        out.record,
        {
            **records[0],
            "settings": settings.as_recipe(),
            "step": step("merge shards", command, materials, {out.file.name: digest}),
            "shards": [{key: record[key] for key in ("step", "file")} for record in records],
            "file": file_entry(out.file.name, digest),
            "chunks": imatrix.chunk_count,
            "entries": len(imatrix.entries),
            **({"unseen": unseen} if unseen else {}),
        },
    )


def _require_together(shards: Sequence[Product], records: Sequence[Mapping[str, Any]], settings: Calibration) -> None:
    """Refuse shards of another recipe, or of different models, texts or, where these decide the bytes, processors."""
    for shard, record in zip(shards, records, strict=True):
        again = f"remove {shard.record} and run again"
        if (record["settings"], record["file"]["name"]) != (measured(settings).as_recipe(), shard.file.name):
            raise StaleError(f"{shard.file} is another shard than the recipe asks for: {again}")
        if record["step"]["materials"] != records[0]["step"]["materials"]:
            raise StaleError(f"{shard.file} was computed from another model or text than {shards[0].file}: {again}")
        if settings.variant == "native" and record["features"] != records[0]["features"]:
            raise StaleError(
                f"{shard.file} was computed by another kind of processor than {shards[0].file}, and native arithmetic "
                f"shows it: {again} on one kind, or calibrate in portable arithmetic"
            )


def _command(shards: Sequence[str], settings: Calibration, out: str) -> list[str]:
    """The tool wants a model to be named, and opens none; context and batch tell how many tokens make a chunk.

    Older ones take no list with commas after ``--in-file``; newer ones warn of its repetition, and add up all the same.
    """
    options = [option for name in shards for option in ("--in-file", name)]
    return [
        "llama-imatrix", "-m", "model.gguf", *options, "-o", out, "--output-format", "gguf",
        "-c", str(settings.context), "-b", str(settings.batch),
    ]  # fmt: skip
