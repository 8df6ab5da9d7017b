"""``snakemake rebuild``: a release made again from its manifest, by the real workflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from requant.formats.gguf import read_header
from requant.ground.exit_codes import ExitCode
from requant.ground.programs import WorkFolder
from requant.release.rebuild import rebuild_release
from support.checkout import ROOT, TOOLCHAINS
from support.workplace import Workplace, prepare, tiny_recipe

QUANT = "Tiny-Qwen3-Q4_K_M-imatrix.gguf"
TAMPERED = "blk.0.ffn_up.weight"


@pytest.fixture(scope="module")
def audited(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the target ``rebuild`` made a release and rebuilt it."""
    workplace = prepare(tmp_path_factory.mktemp("rebuild") / "a folder", tiny_recipe())
    workplace.run("rebuild")
    return workplace


def test_a_release_is_made_again(audited: Workplace) -> None:
    found = json.loads((audited.results / "rebuild" / "report.json").read_text())
    assert (found["verdict"], found["name"]) == ("same", "Tiny-Qwen3")
    rebuilt = audited.results / "rebuild" / "work" / "results" / "Tiny-Qwen3"
    assert (rebuilt / "calibration" / "imatrix.gguf").stat().st_ino != (audited.release / "imatrix.gguf").stat().st_ino
    assert (rebuilt.parent / "toolchains").resolve() == (TOOLCHAINS).resolve()
    assert (audited.results / "rebuild" / "report.txt").read_text().splitlines()[-1].startswith("same: ")


def test_a_tampered_release_is_told_by_the_tensor(
    audited: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was just rebuilt stands in for a second rebuild, which would give the same."""
    rebuilt = audited.results / "rebuild" / "work" / "results"

    def copy(work: WorkFolder, *_: object) -> None:
        shutil.copytree(rebuilt, work.path / "results", symlinks=True, dirs_exist_ok=True)

    monkeypatch.setattr("requant.release.rebuild._run", copy)
    release = Path(shutil.copytree(audited.release, tmp_path / "release"))
    [tensor] = [tensor for tensor in read_header(release / QUANT).tensors if tensor.name == TAMPERED]
    data = np.memmap(release / QUANT, np.uint8, "r+", tensor.offset, (tensor.nbytes,))
    data[5 * tensor.type.type_size + 20] ^= 0x10
    data.flush()
    text, document = tmp_path / "report.txt", tmp_path / "report.json"
    rebuilt = rebuild_release(release, ROOT / "Snakefile", {}, text, document, 2, tmp_path / "log")
    assert rebuilt.exit_code is ExitCode.AGAINST
    assert TAMPERED in text.read_text()
    assert text.read_text().splitlines()[-1].startswith("differs: ")
    found = json.loads(document.read_text())
    assert found["verdict"] == "differs"
    [file] = found["diff"]["files"]
    [row] = file["gguf"]["tensors"]
    assert (file["name"], row["name"], row["blocks"], row["bytes"]) == (QUANT, TAMPERED, 1, 1)
    assert 0 < float(row["relative"]) < 0.1


def test_a_manifest_of_other_inputs_is_refused_before_the_run(audited: Workplace, tmp_path: Path) -> None:
    release = Path(shutil.copytree(audited.release, tmp_path / "release"))
    path = release / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(path.read_text().replace(manifest["inputs"]["toolchain"]["tree"], "1" * 40))
    output = audited.run("rebuild", "--config", f"audited={release}", ok=False)
    [sentence] = {line for line in output.splitlines() if line.startswith("error: ")}
    assert "inputs.toolchain.tree is 1111" in sentence
    assert not (audited.results / "rebuild" / "report.txt").read_text()
