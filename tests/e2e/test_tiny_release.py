"""The demo's release: complete, verifiable, the same everywhere."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from requant.formats.imatrix import check_run, read_imatrix
from requant.ground.digests import digest_file
from requant.pipeline.describe import describe
from support.checkout import ROOT, TOOLCHAINS
from support.workplace import TINY, TOOLCHAIN, Workplace, digests, tiny_recipe

pytestmark = pytest.mark.makes_the_demo
GOLDEN = ROOT / "tests" / "golden" / "tiny.json"
QUANT = "Tiny-Qwen3-Q4_K_M.gguf"


def test_release_is_complete_and_sha256sum_accepts_it(demo: Workplace) -> None:
    names = {"README.md", "SHA256SUMS", "evaluation.json", "imatrix.gguf", "manifest.json", QUANT}
    assert {path.name for path in demo.release.iterdir()} == names
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=demo.release, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count(": OK")) == (0, 5), done.stdout + done.stderr


def test_manifest_describes_the_files(demo: Workplace) -> None:
    manifest = json.loads((demo.release / "manifest.json").read_text())
    [quant] = manifest["quants"]
    found = describe(demo.release / QUANT)
    assert quant["file"]["sha256"] == found.digest.sha256
    assert [(tensor["name"], tensor["type"], tensor["sha256"]) for tensor in quant["tensors"]] == [
        (tensor.name, tensor.type.name, tensor.sha256) for tensor in found.tensors
    ]
    assert {tensor["type"] for tensor in quant["tensors"]} == {"Q4_K", "Q6_K", "F32"}
    assert quant["fallbacks"] == []
    check_run(read_imatrix(demo.release / "imatrix.gguf"), 100, 512, "docs.train.txt")
    names = [step["name"] for step in manifest["steps"]]
    assert names == ["convert", "calibrate", "quantize Q4_K_M"]


def test_every_product_is_the_next_steps_material(demo: Workplace) -> None:
    manifest = json.loads((demo.release / "manifest.json").read_text())
    known = {entry["sha256"] for entry in manifest["inputs"]["model"]["files"]}
    known |= {entry["sha256"] for entry in manifest["inputs"]["corpus"]["texts"].values()}
    for step in manifest["steps"]:
        assert {entry["sha256"] for entry in step["materials"]} <= known
        known |= {entry["sha256"] for entry in step["products"]}
    assert manifest["imatrix"]["file"]["sha256"] in known


def test_either_converter_gives_the_same_file(demo: Workplace, workplace: Workplace, upstream_converter: Path) -> None:
    workplace.write(tiny_recipe(model=TINY["model"], conversion="upstream"))
    workplace.run("convert_checkpoint")
    files = [place.results / "bf16" / "converted" / "Tiny-Qwen3.gguf" for place in (demo, workplace)]
    assert digest_file(files[0]) == digest_file(files[1])
    records = [json.loads(file.with_name("model.json").read_text())["step"] for file in files]
    assert [record["command"][0] for record in records] == ["requant", "python"]
    lock = hashlib.sha256((ROOT / "envs" / "converter.lock").read_bytes()).hexdigest()
    materials = [{entry["sha256"] for entry in record["materials"]} for record in records]
    assert materials[1] - materials[0] == {lock}


def test_no_machine_fact_enters_the_release(demo: Workplace) -> None:
    host = subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip().encode()
    for path in demo.release.iterdir():
        data = path.read_bytes()
        assert str(ROOT).encode() not in data, path
        assert len(host) < 5 or host not in data, path


def test_card_suits_the_hub(demo: Workplace) -> None:
    card = ModelCard.load(demo.release / "README.md")
    assert card.data.to_dict()["pipeline_tag"] == "text-generation"
    manifest = json.loads((demo.release / "manifest.json").read_text())
    assert manifest["quants"][0]["file"]["sha256"] in card.text


def test_golden_digests(demo: Workplace, tmp_path: Path) -> None:
    """What must be the same on any machine: the BF16 GGUF, its quant without an importance matrix, and the release."""
    model = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    shutil.copy(model, tmp_path / "model.gguf")
    for name in ("imatrix.gguf", QUANT):
        shutil.copy(demo.release / name, tmp_path / name)
    tool = TOOLCHAINS / TOOLCHAIN / "strict" / "bin" / "llama-quantize"
    subprocess.run([tool, "model.gguf", "Q4_K_M.gguf", "Q4_K_M", "2"], cwd=tmp_path, check=True, capture_output=True)
    assert json.loads(GOLDEN.read_text()) == digests(tmp_path)


def test_nothing_is_done_twice(demo: Workplace) -> None:
    assert "Nothing to be done" in demo.run()


def test_other_quant_types(make_workplace: Callable[..., Workplace]) -> None:
    kinds = ["Q8_0", "IQ4_XS", "Q4_K_M"]
    workplace = make_workplace(recipe=tiny_recipe(quants=kinds))
    workplace.run()
    manifest = json.loads((workplace.release / "manifest.json").read_text())
    assert [quant["type"] for quant in manifest["quants"]] == kinds
    sums = (workplace.release / "SHA256SUMS").read_text()
    card = (workplace.release / "README.md").read_text()
    for kind in kinds:
        assert f"Tiny-Qwen3-{kind}.gguf" in sums
        assert f"Tiny-Qwen3-{kind}.gguf" in card


def test_report_embeds_card_manifest_and_times(demo: Workplace, tmp_path: Path) -> None:
    report = tmp_path / "report.zip"
    demo.run("--report", str(report))
    listed = subprocess.run(
        ["python3", "-m", "zipfile", "-l", report], capture_output=True, text=True, check=True
    ).stdout
    for name in ("manifest.json", "README.md", "run.tsv"):
        assert name in listed, listed
