"""Generate the small random model of a recipe, where it has one in place of a pin."""

from collections.abc import Mapping
from pathlib import Path

from requant.documents.records import file_entry, write_record
from requant.ground.digests import digest_file, publish
from requant.ground.programs import work_folder
from requant.pipeline.tiny_model import write_tiny_model
from requant.pipeline.tiny_shape import TinyShape


def generate_model(tree: Path, shape: Mapping[str, int], name: str, out: Path, record: Path) -> None:
    """Generate the small random model of a recipe into ``out`` and write its ``record``."""
    with work_folder(out.parent / "generate") as work:
        files = write_tiny_model(tree, work.path, TinyShape(**shape))
        entries = [file_entry(file.name, digest_file(file)) for file in sorted(files)]
        out.mkdir(parents=True, exist_ok=True)
        for file in files:
            publish(file, out / file.name)
    origin = {"name": name, "repo": None, "revision": None, "licence": "MIT", "package": None, "generate": dict(shape)}
    write_record(record, {**origin, "files": entries})
