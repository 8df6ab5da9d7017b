"""A release made again, by ``snakemake rebuild`` from its manifest and by what its own card says: the same bytes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from requant.formats.gguf import read_header
from requant.ground.exit_codes import ExitCode
from requant.ground.programs import WorkFolder
from requant.release.rebuild import rebuild_release
from support.checkout import ROOT, TOOLCHAINS
from support.workplace import QUANT, Workplace, digests, prepare, tiny_recipe

BIN = str(Path(sys.executable).parent)
CARD_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
MADE = ("imatrix.gguf", "manifest.json", QUANT)
"""What does not hold the numbers of a measurement, which are another machine's on another machine."""
TAMPERED = "blk.0.ffn_up.weight"


@pytest.fixture(scope="module")
def audited(demo: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace where the target ``rebuild`` made a release, with measurements, and rebuilt it."""
    measured = {"fidelity": {"arithmetic": "native", "chunks": 1, "context": 512}}
    workplace = prepare(tmp_path_factory.mktemp("rebuild") / "a folder", tiny_recipe(evaluation=measured))
    workplace.run("rebuild", cores=2)
    return workplace


def test_a_release_is_made_again(audited: Workplace) -> None:
    found = json.loads((audited.results / "rebuild" / "report.json").read_text())
    assert (found["verdict"], found["name"]) == ("same", "Tiny-Qwen3")
    rebuilt = audited.results / "rebuild" / "work" / "results" / "Tiny-Qwen3"
    assert (rebuilt / "calibration" / "imatrix.gguf").stat().st_ino != (audited.release / "imatrix.gguf").stat().st_ino
    assert (rebuilt.parent / "toolchains").resolve() == (TOOLCHAINS).resolve()
    assert (audited.results / "rebuild" / "report.txt").read_text().splitlines()[-1].startswith("same: ")


def card_commands(release: Path, heading: str) -> list[str]:
    """The lines of the blocks that stand under a heading of a card."""
    section = (release / "README.md").read_text().split(f"\n### {heading}\n")[1].split("\n### ")[0]
    return [line for block in CARD_BLOCK.findall(section) for line in block.replace("\\\n", "").splitlines()]


def test_the_cards_own_check(audited: Workplace, tmp_path: Path) -> None:
    """What the card says to type, in a folder of another name and on one core instead of two."""
    again = prepare(tmp_path / "another folder, 另一个", tiny_recipe())
    lines = card_commands(audited.release, "Verify")
    [written, remade, compared] = lines[lines.index("make setup") + 1 :]
    typed = remade.replace("--cores 8", "--cores 1")
    assert typed != remade
    snakemake = f"{BIN}/snakemake --snakefile {ROOT / 'Snakefile'}"
    script = "\n".join([written, typed.replace(".venv/bin/snakemake", snakemake), compared.replace(".venv/bin", BIN)])
    env = {**os.environ, "RELEASE": str(audited.release)}
    done = subprocess.run(["bash", "-ec", script], cwd=again.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nsame: the manifests are equal, and all that they describe" in f"\n{done.stdout}"
    made = digests(audited.release)
    assert {name: digest for name, digest in digests(again.release).items() if name in MADE} == {
        name: made[name] for name in MADE
    }


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
    [file] = [each for each in found["diff"]["files"] if each["described"]]
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
