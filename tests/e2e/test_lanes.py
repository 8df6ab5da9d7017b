"""The lanes in the workflow: the release is the same without them, and one byte that differs stops the step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from requant.documents.records import Product, write_record
from requant.ground.digests import digest_file
from requant.ground.errors import ToolError
from requant.ground.programs import Run
from requant.pipeline.quantize import Tools, quantize_plain
from requant.toolchain.build import build_backend
from requant.toolchain.tree import proven_tree
from requant.toolchain.variants import LANES, OWN_CODE, Variant, variant
from support.checkout import TOOLCHAINS
from support.workplace import QUANT, TINY, TOOLCHAIN, Workplace, moved

TOOL = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize.json"


def quantized(demo: Workplace, folder: Path, lanes: Path | None) -> Path:
    """The demo's weights as Q4_K_M without a matrix, by this library of lanes; where the log lies."""
    folder.mkdir()
    model = demo.results / "bf16" / "converted"
    log = folder / "log"
    out = Product(folder / "model-Q4_K_M.gguf", folder / "Q4_K_M.json")
    quantize_plain(
        Product(model / "Tiny-Qwen3.gguf", model / "model.json"), Tools(TOOL, lanes), "Q4_K_M", out, Run(2, log)
    )
    return log


def test_the_demo_was_quantized_in_lanes(demo: Workplace) -> None:
    manifest = json.loads((demo.release / "manifest.json").read_text())
    assert set(manifest["variants"]) == {"strict", "portable", "lanes"}
    assert "requant: lanes, level " in (demo.results / "logs" / "quantize_Q4_K_M.log").read_text()


def test_without_lanes(demo: Workplace, tmp_path: Path) -> None:
    """The recipe's key makes the quant again, nothing before it, and the same bytes."""
    workplace = moved(demo, tmp_path / "work", "generated", "bf16", "corpus", "calibration", "quants")
    # Without measurements, which have nothing to do with it; so the release, which holds them, is made anew.
    workplace.write({key: part for key, part in TINY.items() if key != "evaluation"} | {"quantization": "strict"})
    said = workplace.run()
    assert "quantizing Tiny-Qwen3 to Q4_K_M" in said and "calibrating" not in said
    manifest = json.loads((workplace.release / "manifest.json").read_text())
    assert set(manifest["variants"]) == {"strict", "portable"}
    assert (workplace.release / QUANT).read_bytes() == (demo.release / QUANT).read_bytes()


def test_a_difference_stops_the_step(demo: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes with one constant changed are built like the real ones; the first row that is drawn tells."""
    tree = proven_tree(TOOLCHAINS / TOOLCHAIN / "source.json")
    shutil.copytree(OWN_CODE, tmp_path / "native")
    kinds = tmp_path / "native" / "lanes" / "super_blocks.h"
    planted = kinds.read_text().replace("{-1.0f, 0.1f, 20, false, true}", "{-0.95f, 0.1f, 20, false, true}")
    assert planted != kinds.read_text()
    kinds.write_text(planted)
    real = variant(LANES)
    changed = Variant(LANES, real.definitions, real.flags, real.backends, tmp_path / "native" / "lanes")
    monkeypatch.setattr("requant.toolchain.build.variant", lambda name: changed if name == LANES else variant(name))
    build_backend(tree, LANES, tmp_path / "built", "0" * 40, Run(2, tmp_path / "build.log"))
    words = (
        r"^lanes of level \w+ differ from llama\.cpp in row \d+ of a part in Q4_K with \d+ columns: digests .*; write"
    )
    with pytest.raises(ToolError, match=words):
        quantized(demo, tmp_path / "out", tmp_path / "built" / "build.json")
    assert not list((tmp_path / "out").glob("*.gguf")) + list((tmp_path / "out").glob("*.json"))


def test_a_library_that_is_not_loaded(demo: Workplace, tmp_path: Path) -> None:
    """What the dynamic linker passes over says nothing at the end, and that is no quant."""
    lanes = TOOLCHAINS / TOOLCHAIN / LANES
    shutil.copytree(lanes, tmp_path / "lanes")
    record = json.loads((tmp_path / "lanes" / "build.json").read_text())
    library = tmp_path / "lanes" / "libggml-lanes.so"
    library.write_bytes(b"no library")
    digest = digest_file(library)
    record["binaries"] = {library.name: {"size": digest.size, "sha256": digest.sha256}}
    write_record(tmp_path / "lanes" / "build.json", record)
    with pytest.raises(
        ToolError, match=r"^llama-quantize did not load libggml-lanes\.so: write `quantization: strict`"
    ):
        quantized(demo, tmp_path / "out", tmp_path / "lanes" / "build.json")
