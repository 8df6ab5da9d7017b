"""requant.release.rebuild without a run: manifests that are refused before anything is made, and verdicts on what was made."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from requant.difference.diff import Diff
from requant.difference.ggufs import GGUFDiff, TensorDiff
from requant.difference.imatrices import Comparison, Difference
from requant.difference.releases import FileDiff, ReleaseDiff, changes
from requant.documents.manifest import Manifest, read_manifest
from requant.documents.pins import read_pins
from requant.formats.ggml import GGMLType
from requant.ground.canonical import canonical
from requant.ground.digests import Digest
from requant.ground.errors import RecipeError, RequantError, ToolError, UnsupportedError
from requant.ground.programs import WorkFolder
from requant.pipeline.recipe import load_recipe
from requant.release.rebuild import claimed_recipe, machine_facts, other_inputs, rebuild_release
from requant.release.rebuild_verdict import CLOSE, DIFFERS, SAME, TOLERANCE, as_document, as_text, judge
from support.checkout import ROOT
from support.small_release import QUANT, write_release

WEIGHT = "blk.0.attn_q.weight"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a small release whose inputs are the pinned ones."""
    folder = write_release(tmp_path_factory.mktemp("honest") / "release")
    manifest = json.loads((folder / "manifest.json").read_text())
    pins = read_pins(ROOT / "config" / "pins.yaml")
    toolchain = pins.toolchains[manifest["recipe"]["document"]["toolchain"]]
    assert toolchain.sdist is not None
    sdist = {"project": toolchain.sdist.project, "version": toolchain.sdist.version}
    sdist |= {"size": toolchain.sdist.expected.size, "sha256": toolchain.sdist.expected.sha256}
    manifest["inputs"]["toolchain"] |= {"commit": toolchain.commit, "tree": toolchain.tree, "sdist": sdist}
    texts = pins.corpora[manifest["recipe"]["document"]["corpus"]["pin"]].texts
    manifest["inputs"]["corpus"]["texts"] = {
        role: {"name": texts[name].name, "size": texts[name].expected.size, "sha256": texts[name].expected.sha256}
        for role, name in (("calibration", "train"), ("evaluation", "test"))
    }
    return manifest


def test_an_honest_manifest_is_taken(honest: dict[str, Any]) -> None:
    recipe = claimed_recipe(Manifest.of(honest), {}, ROOT)
    assert (recipe.name, recipe.document) == ("Tiny-Qwen3", honest["recipe"]["document"])


def change(manifest: dict[str, Any], place: str, value: Any) -> None:
    *parents, last = place.split(".")
    for key in parents:
        manifest = manifest[key]
    manifest[last] = value


# Where it is written, what is written there, and what the one sentence says.
REFUSED: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "a name that leads out": ("recipe.document.name", "../../etc", ("name is '../../etc'",)),
    "a name with a slash": ("recipe.document.name", "a/b", ("name is 'a/b'",)),
    "the name of the toolchains": ("recipe.document.name", "toolchains", ("name is 'toolchains'",)),
    "a pin table of its own": ("recipe.document.pins", "/tmp/evil.yaml", ("recipe.document holds pins",)),
    "a source of its own": ("recipe.document.source", "/tmp/evil", ("recipe.document holds source",)),
    "something to audit": ("recipe.document.audited", "/tmp/evil", ("recipe.document holds audited",)),
    "an unknown key": ("recipe.document.shell", "rm", ("shell is not a known key",)),
    "no toolchain that is pinned": ("recipe.document.toolchain", "evil", ("toolchain is 'evil'", "pins.yaml")),
    "an unknown quant": ("recipe.document.quants", ["Q9_X"], ("Q9_X",)),
    "a recipe that is none": ("recipe.document", {}, ("recipe.document",)),
    "another commit": ("inputs.toolchain.commit", "1" * 40, ("inputs.toolchain.commit is 1111", "config/pins.yaml says 0c1e57")),
    "another tree": ("inputs.toolchain.tree", "1" * 40, ("inputs.toolchain.tree",)),
    "another package": ("inputs.toolchain.sdist.sha256", "1" * 64, ("inputs.toolchain.sdist.sha256",)),
    "another text": ("inputs.corpus.texts.calibration.sha256", "1" * 64, ("inputs.corpus.texts.calibration.sha256",)),
    "another shape": ("inputs.model.generate.seed", 1, ("inputs.model.generate.seed is 1", "says 2507")),
    "more files": ("inputs.corpus.files", [{"name": "x", "size": 1, "sha256": "1" * 64}], ("inputs.corpus.files[0] is x", "(absent)")),
    "another schema": ("schema", "requant/manifest/v9", ("requant/manifest/v9", "install a requant")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_manifest_is_one_sentence(honest: dict[str, Any], tmp_path: Path, name: str) -> None:
    place, value, words = REFUSED[name]
    manifest = copy.deepcopy(honest)
    change(manifest, place, value)
    (tmp_path / "manifest.json").write_bytes(canonical(manifest))
    with pytest.raises(RequantError) as error:
        claimed_recipe(read_manifest(tmp_path / "manifest.json"), {}, ROOT)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


def test_a_release_with_former_names_is_left_to_the_version_that_made_it() -> None:
    """Its bytes would be called other ones, though they are the same."""
    manifest = read_manifest(ROOT / "tests" / "golden" / "v1" / "manifest.json")
    with pytest.raises(
        UnsupportedError, match=r"names its quants otherwise .*Tiny-Qwen3-Q4_K_M-imatrix\.gguf.* rebuild it with"
    ):
        claimed_recipe(manifest, {}, ROOT)


def test_pins_that_say_less_contradict_less(honest: dict[str, Any]) -> None:
    manifest = copy.deepcopy(honest)
    manifest["inputs"]["model"]["files"][0]["sha256"] = "1" * 64
    # No pin names the files of a generated model: they are compared once it has been generated again.
    assert claimed_recipe(Manifest.of(manifest), {}, ROOT).name == "Tiny-Qwen3"


@pytest.mark.parametrize("config", ["config", "smollm2"])
def test_inputs_may_say_more_than_their_pins_but_nothing_else(config: str) -> None:
    recipe = load_recipe(yaml.safe_load((ROOT / "config" / f"{config}.yaml").read_text()), ROOT)
    assert recipe.model is not None
    texts = {"calibration": recipe.calibration_text, "evaluation": recipe.evaluation_text}
    inputs = {
        "model": recipe.model.as_input(), "corpus": recipe.corpus.as_input(texts), "toolchain": recipe.toolchain.as_input()
    }  # fmt: skip
    for file in inputs["model"]["files"]:
        file |= {key: "found" for key in ("size", "sha256") if file[key] is None}
    assert [*other_inputs(inputs, recipe)] == []
    *_, weights = inputs["model"]["files"]
    weights["size"] = 1
    assert [found.place for found in other_inputs(inputs, recipe)] == [f"inputs.model.files.{weights['name']}.size"]
    inputs["model"]["files"].remove(weights)
    assert [*other_inputs(inputs, recipe)], "a pinned file is not there"


def test_a_release_where_the_rebuild_goes(tmp_path: Path) -> None:
    inside = write_release(tmp_path / "work" / "release")
    nowhere = (tmp_path / "report.txt", tmp_path / "report.json", 1, tmp_path / "log")
    with pytest.raises(RecipeError, match="which every rebuild empties"):
        rebuild_release(inside, ROOT / "Snakefile", {}, *nowhere)
    assert (inside / "manifest.json").exists()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("huggingface", "huggingface"),
        ("modelscope", "modelscope"),
        ("weights", "{cwd}/weights"),
        ("~nobody-at-all/x", "{cwd}/~nobody-at-all/x"),
    ],
)
def test_a_folder_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, found: str) -> None:
    monkeypatch.chdir(tmp_path)
    config = {"name": "x", "source": source, "pins": "config/pins.yaml", "audited": "elsewhere"}
    assert machine_facts(config) == {"source": found.format(cwd=tmp_path), "pins": "config/pins.yaml"}
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pins.yaml").touch()
    assert machine_facts({})["pins"] == machine_facts(config)["pins"] == str(tmp_path / "config" / "pins.yaml")


def test_the_run_inside_is_a_run_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: dict[str, Any]
) -> None:
    """No profile or setting of the run around it, the recipe of the manifest, the toolchains of this folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "evil")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    seen: dict[str, Any] = {}

    def run(work: WorkFolder, command: list[str], output: Path, **options: Any) -> None:
        seen.update(options, command=command, recipe=json.loads((work.path / "recipe.json").read_text()))
        seen["toolchains"] = (work.path / "results" / "toolchains").resolve()
        options["watch"]("error: it is odd")
        raise ToolError(options["explain"]("the last lines"))

    monkeypatch.setattr("requant.release.rebuild.WorkFolder.run", run)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "manifest.json").write_bytes(canonical(honest))
    reports = (tmp_path / "rebuild" / "report.txt", tmp_path / "rebuild" / "report.json")
    with pytest.raises(ToolError, match=r"^the rebuild failed \(it is odd\): see .*log$"):
        rebuild_release(tmp_path / "release", ROOT / "Snakefile", {}, *reports, 3, tmp_path / "log")
    assert not [name for name in seen["env"] if name.startswith("SNAKEMAKE")]
    assert seen["env"]["HF_ENDPOINT"] == "http://127.0.0.1:9"
    assert seen["recipe"] == honest["recipe"]["document"]
    assert seen["toolchains"] == tmp_path / "results" / "toolchains"
    assert seen["command"][-2:] == ["--cores", "3"]


# Verdicts.


def native(folder: Path, digest: str) -> Path:
    """A release with native calibration, whose measured digests are made of ``digest``."""
    write_release(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["recipe"]["document"]["calibration"]["arithmetic"] = "native"
    manifest["variants"]["native"] = manifest["variants"].pop("portable")
    manifest["imatrix"] |= {"arithmetic": "native", "features": [f"F{digest}"]}
    known = {manifest["imatrix"]["file"]["sha256"], manifest["quants"][0]["file"]["sha256"]}
    text = canonical(manifest).decode()
    for sha256 in known:
        text = text.replace(sha256, digest + sha256[1:])
    (folder / "manifest.json").write_text(text)
    return folder


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diff:
    """An audited and a rebuilt release as two processors make them."""
    a, b = (native(tmp_path / digest, digest) for digest in "1a")
    monkeypatch.setattr("requant.release.rebuild_verdict.verify_release", lambda _: SimpleNamespace(findings=()))
    row = Difference(WEIGHT, 64, 1e-4, 1e-3, 2e-2, 0.99999999, False)
    imatrix = Comparison({}, (), (row,), replace(row, name="total"))
    tensor = TensorDiff(WEIGHT, (256, 4), (GGMLType.Q4_K,) * 2, 1, 4, 2, 576, 1e-3, 0.1)
    digests = (Digest(1, "1" * 64), Digest(1, "a" * 64))
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (a, b)]
    files = (
        FileDiff("imatrix.gguf", digests, imatrix, None, True),
        FileDiff(QUANT, digests, GGUFDiff((), (), (), (tensor,), 2), None, True),
    )
    return Diff(a, b, ReleaseDiff(tuple(changes(*manifests)), files, 2))


def with_detail(found: Diff, number: int, change: Callable[[Any], Any]) -> Diff:
    assert isinstance(found.found, ReleaseDiff)
    files = list(found.found.files)
    files[number] = replace(files[number], detail=change(files[number].detail))
    return replace(found, found=replace(found.found, files=tuple(files)))


def test_the_same_release(pair: Diff) -> None:
    assert judge("x", "portable", replace(pair, found=ReleaseDiff((), (), 5))).verdict == SAME


@pytest.mark.parametrize("arithmetic", ["portable", "native"])
def test_a_release_is_verified_before_it_is_called_the_same(tmp_path: Path, arithmetic: str) -> None:
    a, b = (write_release(tmp_path / name) for name in "ab")
    same = Diff(a, b, ReleaseDiff((), (), 5))
    assert (judge("x", arithmetic, same).verdict, judge("x", arithmetic, same).others) == (SAME, ())
    (a / "model-Q8_0.gguf").write_bytes(b"planted")
    found = judge("x", arithmetic, same)
    assert (found.verdict, found.others) == (DIFFERS, ("model-Q8_0.gguf",))
    (a / "SHA256SUMS").unlink()
    found = judge("x", arithmetic, same)
    assert found.verdict == DIFFERS and "SHA256SUMS" in found.others[0]


def test_portable_calibration_leaves_no_room(pair: Diff) -> None:
    assert judge("x", "portable", pair).verdict == DIFFERS


@pytest.mark.parametrize("arithmetic", ["native", "cuda-sm121"])
def test_another_processor_may_be_close(pair: Diff, arithmetic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judge("x", arithmetic, pair)
    assert (found.verdict, found.others) == (CLOSE, ())
    assert {check.name for check in found.checks} == TOLERANCE.keys()
    monkeypatch.setattr("requant.difference.imatrices.as_text", lambda _: "a table")
    monkeypatch.setattr("requant.difference.imatrices.as_document", lambda _: {})
    assert as_text(found).splitlines()[-1].startswith("close: ")
    canonical(as_document(found))


def row(**values: Any) -> Callable[[Any], Any]:
    """Change the one tensor of the quant."""
    return lambda detail: replace(detail, tensors=(replace(detail.tensors[0], **values),))


def total(**values: Any) -> Callable[[Any], Any]:
    return lambda detail: replace(detail, total=replace(detail.total, **values))


def weight(**values: Any) -> Callable[[Any], Any]:
    return lambda detail: replace(detail, weights=(replace(detail.weights[0], **values),))


BEYOND: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "the median": (0, total(median=2e-3)),
    "the 99 % quantile": (0, total(most=2e-2)),
    "the cosine": (0, weight(cosine=0.99)),
    "another run": (0, lambda detail: replace(detail, notes=("imatrix.chunk_count is 1 in A, 2 in B",))),
    "a weight that was measured alike": (0, weight(same_bytes=True)),
    "the quant": (1, row(relative=0.5)),
    "a quant that is not finite": (1, row(relative=np.nan)),
    "a quant that cannot be read": (1, row(relative=None)),
    "plain weights": (1, row(types=(GGMLType.F32,) * 2)),
    "other types": (1, row(types=(GGMLType.Q4_K, GGMLType.Q5_K))),
    "a weight that is not measured": (1, row(name="token_embd.weight")),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_no_processor_explains(pair: Diff, name: str) -> None:
    assert judge("x", "native", with_detail(pair, *BEYOND[name])).verdict == DIFFERS


def test_a_manifest_that_says_something_else(pair: Diff) -> None:
    path = pair.a / "manifest.json"
    path.write_text(path.read_text().replace("llama-imatrix", "llama-something"))
    found = judge("x", "native", pair)
    assert found.verdict == DIFFERS
    assert found.others == ("manifest.json: steps[calibrate].command[0]",)


def test_a_release_that_contradicts_itself(pair: Diff, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = (SimpleNamespace(where="SHA256SUMS"),)
    monkeypatch.setattr("requant.release.rebuild_verdict.verify_release", lambda _: SimpleNamespace(findings=findings))
    assert judge("x", "native", pair).others == ("SHA256SUMS",)
