"""requant.pipeline.quantize refuses inputs that are not what they claim to be, before any tool runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from requant.documents.records import Product, file_entry, read_record, step, write_record
from requant.ground.digests import digest_file
from requant.ground.errors import RequantError, StaleError
from requant.ground.programs import Run
from requant.pipeline.quantize import Tools, quantize
from requant.pipeline.settings import Calibration

SETTINGS = Calibration("portable", chunks=100, context=512, batch=512, ubatch=512, flash_attention=False)
RECORDED = SETTINGS.as_recipe()


@dataclass
class Inputs:
    """A model and its importance matrix, as their steps leave them, and a build record without files."""

    model: Path
    imatrix: Path
    tool: Path

    @staticmethod
    def record(file: Path) -> Path:
        return file.with_suffix(".json")

    def change(self, file: Path, **entries: Any) -> None:
        record = self.record(file)
        write_record(record, {**read_record(record), **entries})


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    found = Inputs(tmp_path / "model.gguf", tmp_path / "imatrix.gguf", tmp_path / "llama-quantize.json")
    found.model.write_bytes(b"model")
    found.imatrix.write_bytes(b"imatrix")
    write_record(found.tool, {"variant": "strict", "binaries": {}})
    for file in (found.model, found.imatrix):
        write_record(found.record(file), {"file": file_entry(file.name, digest_file(file))})
    materials = {"model.gguf": digest_file(found.model)}
    found.change(found.imatrix, settings=RECORDED, step=step("calibrate", ["llama-imatrix"], materials, {}))
    return found


BAD: dict[str, tuple[Callable[[Inputs], object], type[RequantError], str]] = {
    "another model": (
        lambda inputs: inputs.model.write_bytes(b"other"), StaleError, "model.gguf is not the file that its record"),
    "another imatrix": (
        lambda inputs: inputs.imatrix.write_bytes(b"other"), StaleError, "imatrix.gguf is not the file that its record"),
    "other flags": (
        lambda inputs: inputs.change(inputs.imatrix, settings={**RECORDED, "batch": 2048}), StaleError,
        "imatrix.gguf was computed with batch 2048, the recipe says 512: remove "),
    "another arithmetic": (
        lambda inputs: inputs.change(inputs.imatrix, settings={**RECORDED, "arithmetic": "native"}), StaleError,
        "imatrix.gguf was computed with arithmetic native, the recipe says portable: remove "),
    "an imatrix of another model": (
        lambda inputs: inputs.change(inputs.imatrix, step=step("calibrate", [], {}, {})), StaleError,
        "imatrix.gguf was computed from another model than "),
    "a shard of another model": (
        lambda inputs: inputs.change(inputs.imatrix, step=step("merge shards", [], {}, {}), shards=[
            {"step": read_record(inputs.record(inputs.imatrix))["step"]}, {"step": step("calibrate", [], {}, {})},
        ]), StaleError, "imatrix.gguf was computed from another model than "),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_false_claims(inputs: Inputs, tmp_path: Path, name: str) -> None:
    change, kind, words = BAD[name]
    change(inputs)
    out = tmp_path / "out" / "model-Q4_K_M.gguf"
    model, imatrix = (Product(file, inputs.record(file)) for file in (inputs.model, inputs.imatrix))
    run, made = Run(1, tmp_path / "log"), Product(out, tmp_path / "record.json")
    with pytest.raises(kind) as error:
        quantize(model, imatrix, Tools(inputs.tool, None), "Q4_K_M", SETTINGS, made, run)
    assert words in str(error.value)
    assert str(error.value).endswith("and run again")
    assert not out.parent.exists()
