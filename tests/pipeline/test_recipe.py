"""requant.pipeline.recipe: what a recipe may say, how a wrong one is refused, and what of it enters the manifest."""

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from requant.documents.schemas import read_yaml
from requant.ground.canonical import canonical
from requant.ground.errors import DiskError, RecipeError
from requant.pipeline.recipe import KEEP_ALL, bytes_after_download, load_recipe, named_file, needs_gpu, require_room
from requant.places.repository import ID
from requant.quantization.quants import quant_bytes
from support.checkout import ROOT

SHIPPED = sorted(path.name for path in (ROOT / "config").glob("*.yaml") if path.name != "pins.yaml")
GONE = object()


def shipped(name: str = "config.yaml") -> dict[str, Any]:
    document: dict[str, Any] = read_yaml(ROOT / "config" / name)
    return document


def edited(place: str, value: Any) -> dict[str, Any]:
    """The default recipe with one key (``a/b``) set, or removed."""
    document = shipped()
    *folders, last = place.split("/")
    inner: Any = document
    for folder in folders:
        inner = inner[folder]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return document


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load(name: str) -> None:
    recipe = load_recipe(shipped(name), ROOT)
    assert (recipe.model is None) != (recipe.generate is None)
    assert recipe.quants
    assert recipe.calibration_text != recipe.evaluation_text
    assert recipe.toolchain.name == recipe.document["toolchain"]


def test_three_recipes_are_shipped() -> None:
    assert len(SHIPPED) == 3


WRONG = {
    "unknown key": ("qants", ["Q4_K_M"], "qants is not a known key (did you mean quants?)"),
    "a quant in small letters": ("quants", ["q4_k_m"], "(did you mean Q4_K_M?)"),
    "unknown deep key": ("calibration/ubach", 512, "calibration.ubach is not a known key (did you mean ubatch?)"),
    "a machine fact": ("threads", 8, "threads is not a known key; write only recipe, name,"),
    "a key that is no text": (1, 8, "1 is not one line of text; write it in quotes"),
    "missing key": ("quants", GONE, "quants is missing; write the quantization types to release"),
    "missing deep key": (
        "corpus/calibration",
        GONE,
        "corpus.calibration is missing; write the name of the pinned text",
    ),
    "another version": ("recipe", 2, "recipe is 2; write 1, the version of this recipe format"),
    "the name of a shared folder": (
        "name",
        "suites",
        "name is 'suites', a folder that all recipes share; write another",
    ),
    "a path as name": ("name", "../x", "name is '../x'; write the model's name"),
    "a line end in the name": ("name", "Tiny\n", r"name is 'Tiny\n'; write the model's name"),
    "an empty name": ("name", "", "name is ''; write"),
    "wrong type: text for a list": ("quants", "Q4_K_M", "quants is 'Q4_K_M'; write a list"),
    "wrong type: nothing": ("calibration", None, "calibration is empty; write a mapping"),
    "wrong type: text for a number": ("calibration/chunks", "100", "calibration.chunks is '100'; write a whole number"),
    "a fraction": ("calibration/chunks", 1.5, "calibration.chunks is 1.5; write a whole number"),
    "a truth value": ("calibration/chunks", True, "calibration.chunks is True; write a whole number"),
    "too small": ("calibration/chunks", 0, "calibration.chunks is 0; write"),
    "text for a truth value": ("calibration/flash_attention", "off", "flash_attention is 'off'; write true or false"),
    "unknown arithmetic": ("calibration/arithmetic", "cuda", "calibration.arithmetic is 'cuda'; write portable"),
    "no quants": ("quants", [], "quants is an empty list; write"),
    "unknown quant type": ("quants", ["Q4_KM"], "quants.0 is 'Q4_KM'; write one of Q2_K"),
    "nearest quant type": ("quants", ["Q4_KM"], "(did you mean Q4_K_M?)"),
    "duplicate quants": ("quants", ["Q4_K_M", "Q4_K_M"], "quants lists something twice"),
    "a name alone": ("model", {"name": "x"}, "model has neither pin nor generate; write one of them"),
    "a shared folder as the model's name": ("model/name", "suites", "model.name is 'suites', a folder that all"),
    "neither pin nor generate": ("model", {}, "model is an empty mapping; write either pin or generate"),
    "both pin and generate": (
        "model/generate",
        {"layers": 1, "hidden": 256, "ffn": 256, "heads": 1, "kv_heads": 1, "head_dim": 64, "seed": 0},
        "model has both pin and generate; write one of them",
    ),
    "unknown model": (
        "model/pin",
        "Qwen4",
        "model.pin is 'Qwen4'; write one of the names in config/pins.yaml: Qwen3-4B",
    ),
    "unknown corpus": ("corpus/pin", "c4", "corpus.pin is 'c4'; write one of the names in config/pins.yaml"),
    "unknown text": ("corpus/calibration", "tain", "corpus.calibration is 'tain'; write one of"),
    "unknown other text": ("corpus/evaluation", "dev", "corpus.evaluation is 'dev'; write one of"),
    "unknown toolchain": ("toolchain", "b1234", "toolchain is 'b1234'; write one of the names in"),
    "ubatch > batch": ("calibration/ubatch", 1024, "calibration.ubatch is 1024; write at most calibration.batch (512)"),
    "one shard": ("calibration/shards", 1, "calibration.shards is 1; write by how many jobs"),
    "too many shards": (
        "calibration/shards",
        101,
        "calibration.shards is 101; write at most 100, the batches that calibration.chunks make",
    ),
    "batch < context": ("calibration/batch", 256, "batch is 256; write a multiple of calibration.context"),
    "batch not a multiple of context": ("calibration/batch", 700, "batch is 700; write a multiple of"),
    "language code": ("card/languages", ["zh-CN"], "card.languages.0 is 'zh-CN'; write a language code"),
    "one language": ("card/summary", {"en": "x"}, "card.summary.zh is missing; write the text in Chinese"),
    "publisher with a slash": ("card/publisher", "a/b", "card.publisher is 'a/b'; write the account"),
    "an unknown measurement": (
        "evaluation/fidelty",
        {},
        "evaluation.fidelty is not a known key (did you mean fidelity?)",
    ),
    "unknown arithmetic of a measurement": ("evaluation/speed/arithmetic", "gpu", "speed.arithmetic is 'gpu'; write"),
    "too few tokens to measure": (
        "evaluation/fidelity/chunks",
        0,
        "evaluation.fidelity.chunks is 0; write",
    ),
    "too little context to measure": (
        "evaluation/fidelity",
        {"arithmetic": "native", "chunks": 3, "context": 64},
        "evaluation.fidelity scores 93 tokens, llama-perplexity tells nothing of fewer than 100; write more chunks",
    ),
    "a suite that is none": (
        "evaluation/behaviour",
        {"arithmetic": "native", "suites": ["mmlu_pro"], "thinking": "default"},
        "behaviour.suites.0 is 'mmlu_pro'; write the path of a .jsonl file, or the name of a set that is no file",
    ),
    "a suite that is no file": (
        "evaluation/behaviour",
        {"arithmetic": "native", "suites": ["suites/cdoe.jsonl"], "thinking": "default"},
        "evaluation.behaviour.suites names suites/cdoe.jsonl, which is no file; check the path",
    ),
    "two suites of one name": (
        "evaluation/behaviour",
        {"arithmetic": "native", "suites": ["a/x.jsonl", "b/x.jsonl"], "thinking": "default"},
        "evaluation.behaviour.suites names two files of one name; give each its own",
    ),
    "a place that is none": (
        "publish",
        ["hugingface:a/b"],
        "publish.0 is 'hugingface:a/b'; write huggingface:OWNER/NAME",
    ),
    "a place twice": ("publish", ["modelscope:a/b"] * 2, "publish lists something twice"),
    "no pin table": ("pins", "config/pin.yaml", "pin.yaml cannot be read"),
}


@pytest.mark.parametrize(("place", "value", "words"), WRONG.values(), ids=list(WRONG))
def test_wrong_recipes(place: Any, value: Any, words: str) -> None:
    recipe = edited(place, value) if isinstance(place, str) else shipped() | {place: value}
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe, ROOT, "config/config.yaml")
    assert words in str(error.value)
    assert str(error.value).startswith("config/config.yaml: ") or place == "pins"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["a/b", "a-b/c.d_E", "a/b" + 95 * "c", "a/-b", "a/b--c", "a/b..c", "a/b.", "a/b/c", "é/b", "a"]
)
def test_a_place_is_a_recipe_s_where_it_is_a_command_s(name: str) -> None:
    recipe = shipped() | {"publish": [f"huggingface:{name}"]}
    if ID.fullmatch(name):
        assert load_recipe(recipe, ROOT).publish == (f"huggingface:{name}",)
    else:
        with pytest.raises(RecipeError, match=r"publish\.0 is .*; write huggingface:OWNER/NAME"):
            load_recipe(recipe, ROOT)


def test_modelscope_needs_its_repository() -> None:
    recipe = shipped("smollm2.yaml") | {"source": "modelscope"}
    with pytest.raises(RecipeError, match="names no modelscope repository for the model"):
        load_recipe(recipe, ROOT)


SOURCES = {
    "a home of nobody": ("~nobody-at-all/models", "source is '~nobody-at-all/models', which is no folder"),
    "no folder": ("/mnt/models", "source is '/mnt/models', which is no folder; write huggingface, modelscope or a folder"),
    "misspelt": ("hugingface", "which is no folder (did you mean huggingface?)"),
    "a moving branch": ("modelscope", "whose master branch moves, and config.json of Qwen3-4B-Thinking-2507 has no pinned"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "words"), SOURCES.values(), ids=list(SOURCES))
def test_a_source_that_can_give_nothing(source: str, words: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(words)):
        load_recipe(shipped("config.yaml") | {"source": source}, ROOT)


@pytest.mark.parametrize(
    "machine",
    [
        {"source": str(ROOT)},
        {"pins": "config/pins.yaml"},
        {"evaluation": {}},
        {"publish": ["modelscope:a/b"]},
        {"keep": []},
    ],
)
def test_machine_keys_stay_out_of_the_document(machine: dict[str, Any]) -> None:
    plain = load_recipe(shipped(), ROOT)
    moved = load_recipe(shipped() | machine, ROOT)
    assert canonical(moved.document) == canonical(plain.document)
    assert not machine.keys() & moved.document.keys()


def test_the_document_is_stable() -> None:
    """Loading changes nothing of what it was given, and neither key order nor later changes move the document."""
    config = shipped()
    before = copy.deepcopy(config)
    recipe = load_recipe(config, ROOT)
    assert config == before
    first = canonical(recipe.document)
    config["quants"].append("Q8_0")
    config["card"]["summary"]["en"] = "other"
    assert canonical(recipe.document) == first
    assert canonical(load_recipe(dict(reversed(before.items())), ROOT).document) == first
    assert recipe.document == {key: value for key, value in before.items() if key != "evaluation"}


def test_files_are_found_in_the_working_folder_or_else_among_the_workflow_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "workflow"):
        (tmp_path / folder / "config").mkdir(parents=True)
    table = yaml.safe_load((ROOT / "config" / "pins.yaml").read_text())
    (tmp_path / "workflow/config/pins.yaml").write_text(yaml.safe_dump(table))
    monkeypatch.chdir(tmp_path / "here")
    root = tmp_path / "workflow"
    assert load_recipe(shipped(), root).model == load_recipe(shipped(), ROOT).model
    table["models"]["Qwen3-4B-Thinking-2507"]["licence"] = "mine"
    Path("config/pins.yaml").write_text(yaml.safe_dump(table))
    found = load_recipe(shipped(), root).model
    assert found is not None
    assert found.licence == "mine"
    assert named_file(str(root / "x"), Path("/elsewhere")) == root / "x"


SMALL, LARGE = quant_bytes(16_000, "Q4_K_M"), quant_bytes(16_000, "Q8_0")


def test_room_for_every_later_step() -> None:
    """The BF16 GGUF, and every quant with its copy in the release."""
    assert bytes_after_download(16_000, ()) == 16_000
    both = quant_bytes(16_000, "Q4_K_M") + quant_bytes(16_000, "Q8_0")
    assert bytes_after_download(16_000, ("Q4_K_M", "Q8_0")) == 16_000 + 2 * both


KEPT: dict[tuple[str, ...], int] = {
    ("weights", "bf16", "quants"): 16_000 + 2 * (SMALL + LARGE),
    ("weights", "quants"): 16_000 + 2 * (SMALL + LARGE),
    ("weights",): 16_000 + 2 * (SMALL + LARGE),
    ("quants",): 2 * (SMALL + LARGE),
    (): 2 * (SMALL + LARGE),
}


@pytest.mark.parametrize(("keep", "room"), KEPT.items())
def test_what_goes_meanwhile_needs_no_room(keep: tuple[str, ...], room: int) -> None:
    """Beside the weights: when they are converted both are there. While something is measured every quant is twice."""
    assert bytes_after_download(16_000, ("Q4_K_M", "Q8_0"), keep) == room
    assert bytes_after_download(16_000, (), ()) == 16_000
    assert bytes_after_download(16_000, ("Q2_K",), ()) == 16_000


def test_by_default_everything_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = shipped("smollm2.yaml")
    assert load_recipe(recipe, ROOT).keep == KEEP_ALL
    few = load_recipe(recipe | {"keep": []}, ROOT)
    assert (few.keep, "keep" in few.document) == ((), False)
    needed: list[int] = []
    monkeypatch.setattr("requant.pipeline.recipe.require_space", lambda _, room, __: needed.append(room))
    require_room([load_recipe(recipe, ROOT)])
    require_room([few])
    assert needed[0] > needed[1]


@pytest.mark.parametrize(
    ("suite", "pin"), [("bfcl_multiple", "bfcl"), ("mmlu", "mmlu"), ("gpqa_diamond", "gpqa_diamond")]
)
def test_a_set_needs_its_pin(tmp_path: Path, suite: str, pin: str) -> None:
    table = yaml.safe_load((ROOT / "config" / "pins.yaml").read_text())
    del table["suites"][pin]
    (tmp_path / "pins.yaml").write_text(yaml.safe_dump(table))
    behaviour = {"arithmetic": "native", "suites": [suite], "thinking": "default"}
    recipe = shipped() | {"pins": str(tmp_path / "pins.yaml"), "evaluation": {"behaviour": behaviour}}
    with pytest.raises(RecipeError, match=rf"suites names {suite}, but .*pins.yaml has no suites.{pin}; pin it there"):
        load_recipe(recipe, ROOT)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(shipped("smollm2.yaml"), ROOT)
    require_room([recipe])
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**8))
    with pytest.raises(DiskError, match=r"^this recipe .* needs \d+\.\d MB on the disk of .*, but 100\.0 MB are free"):
        require_room([recipe])
    require_room([load_recipe(shipped(), ROOT)])
    (tmp_path / "results" / recipe.name / "source").mkdir(parents=True)
    (tmp_path / "results" / recipe.name / "source" / "source.json").touch()
    require_room([recipe])


@pytest.mark.parametrize("keep", [["weights", "bf16", "quants"], []])
def test_recipes_of_one_model_need_room_for_its_weights_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keep: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    needed: list[int] = []
    monkeypatch.setattr("requant.pipeline.recipe.require_space", lambda _, room, __: needed.append(room))
    document = shipped("smollm2.yaml") | {"keep": keep}
    first = load_recipe(document, ROOT)
    again = {"name": "other", "model": {**document["model"], "name": first.name}}
    for recipes in (
        [first],
        [first, load_recipe(document | again, ROOT)],
        [first, load_recipe(document | {"name": "other"}, ROOT)],
    ):
        require_room(recipes)
    one, together, apart = needed
    assert first.model is not None
    weights = sum(known.size or 0 for known in first.model.files.values())
    assert apart == 2 * one
    assert together == weights + bytes_after_download(weights, (*first.quants, *first.quants), keep)
    assert apart - together == 2 * weights or not keep


def test_a_gpu_that_is_not_there() -> None:
    """No machine of ours has one; the profile of GB10 asks for it in the calibration."""
    assert needs_gpu(load_recipe(shipped(), ROOT)) is None
    asked = edited("calibration/arithmetic", "cuda-sm121")
    here = Path("/proc/driver/nvidia/version").exists()
    assert needs_gpu(load_recipe(asked, ROOT)) == (None if here else "calibration")
