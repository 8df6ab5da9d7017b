"""requant.pipeline.new_pin, with the real clients against the loopback Hub: a pin that fetches all that is converted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from requant.documents.pins import ModelPin, read_pins
from requant.documents.records import read_record
from requant.ground.errors import RecipeError
from requant.pipeline.new_pin import add_pin
from requant.pipeline.new_recipe import new_recipe
from requant.pipeline.recipe import load_recipe
from support.checkout import ROOT
from support.files import known
from support.hub import LoopbackHub

Library = Callable[..., str]
REPO = "Some.Body/Tuned-1B"
TEXTS = {
    "config.json": "{}", "chat_template.jinja": "{{ messages }}", "additional_chat_templates/rag.jinja": "{{ documents }}",
    "modules.json": "[]", "1_Pooling/config.json": "{}", "special_tokens_map.json": "{}",
}  # fmt: skip
OTHERS = {
    "README.md": "---\nlicense: mit\n---\n# Tuned\n", ".gitattributes": "", "pytorch_model.bin": "", "training/args.json": "{}",
    "consolidated.safetensors": "", "images/model.png": "",
}  # fmt: skip
SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
WEIGHTS = {
    **dict.fromkeys(SHARDS, "weights"),
    "model.safetensors.index.json": json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}),
}
WANTED = {*TEXTS, *WEIGHTS}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    shutil.copyfile(ROOT / "config" / "pins.yaml", tmp_path / "pins.yaml")
    return tmp_path / "pins.yaml"


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    folder = tmp_path / "Tuned-1B"
    for name, text in {**TEXTS, **OTHERS, **WEIGHTS}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def require_whole(pin: ModelPin, folder: Path) -> None:
    assert pin.files == {name: known(folder / name) for name in WANTED}


def fetched(library: Library, pin: ModelPin, mirror: str, out: Path, **env: str) -> str:
    arguments = (pin, mirror, ("Q4_K_M",), (), out, out / "source.json", out.parent / "fetch.log")
    return library("requant.pipeline.fetch_model.fetch_model", *arguments, env=env)


@pytest.mark.parametrize(("place", "mirror"), [("", "huggingface"), ("hf://", "huggingface"), ("ms://", "modelscope")])
def test_a_repository(
    hub: LoopbackHub, library: Library, table: Path, tuned: Path, tmp_path: Path, place: str, mirror: str
) -> None:
    commit = hub.add_model(REPO, tuned).commit
    before = table.read_text()
    assert library("requant.pipeline.new_pin.add_pin", f"{place}{REPO}", table) == ""
    pin = read_pins(table).models["Tuned-1B"]
    require_whole(pin, tuned)
    assert (pin.repo, pin.licence, pin.public) == (REPO, "MIT", True)
    assert pin.revision == (commit if mirror == "huggingface" else None)
    after = table.read_text()
    assert all(line in after.splitlines() for line in before.splitlines()), "every other line stays"
    hub.requests.clear()
    assert fetched(library, pin, mirror, tmp_path / "results" / "source") == ""
    assert (tmp_path / "results/source/additional_chat_templates/rag.jinja").read_text() == "{{ documents }}"


@pytest.mark.parametrize("page", [f"{REPO}/tree/main", f"models/{REPO}/summary"])
def test_a_page_of_a_repository(hub: LoopbackHub, library: Library, table: Path, tuned: Path, page: str) -> None:
    commit = hub.add_model(REPO, tuned).commit
    assert library("requant.pipeline.new_pin.add_pin", f"{hub.url}/{page}", table) == ""
    pin = read_pins(table).models["Tuned-1B"]
    require_whole(pin, tuned)
    assert (pin.repo, pin.revision) == (REPO, None if page.startswith("models/") else commit)


def test_a_private_repository_that_stays_unnamed(
    hub: LoopbackHub, library: Library, table: Path, tuned: Path, tmp_path: Path
) -> None:
    hub.add_model(REPO, tuned, token="hf_owner")
    refused = library("requant.pipeline.new_pin.add_pin", REPO, table)
    assert "is private or does not exist: set HF_TOKEN" in refused
    assert library("requant.pipeline.new_pin.add_pin", REPO, table, env={"HF_TOKEN": "hf_owner"}) == ""
    lines = table.read_text().replace(f"    repo: {REPO}\n", f"    repo: {REPO}\n    public: false\n")
    table.write_text(lines)
    out = tmp_path / "results" / "source"
    assert fetched(library, read_pins(table).models["Tuned-1B"], "huggingface", out, HF_TOKEN="hf_owner") == ""
    record = read_record(out / "source.json")
    assert (record["repo"], record["revision"]) == (None, None)
    assert REPO not in (out / "source.json").read_text()


def test_a_folder(table: Path, tuned: Path, library: Library, tmp_path: Path) -> None:
    assert add_pin(str(tuned), table).files == len(WANTED)
    pin = read_pins(table).models["Tuned-1B"]
    require_whole(pin, tuned)
    assert (pin.repo, pin.revision, pin.public) == (None, None, False)
    assert fetched(library, pin, str(tuned), tmp_path / "results" / "source") == ""


def lose_a_shard(folder: Path) -> None:
    (folder / SHARDS[1]).unlink()


def only_pickles(folder: Path) -> None:
    for name in WEIGHTS:
        (folder / name).unlink()


def no_licence(folder: Path) -> None:
    (folder / "README.md").unlink()


def no_such_day(folder: Path) -> None:
    """YAML reads it as a day, and Python knows none such."""
    (folder / "README.md").write_text("---\nlicense: mit\ndate: 2024-02-30\n---\n")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard is missing": (lose_a_shard, f"lacks {SHARDS[1]}, which model.safetensors.index.json names"),
    "only pickles": (only_pickles, "holds no weights as safetensors"),
    "a description of a day that is none": (no_such_day, "names no licence in a README.md: give it with --licence"),
    "no licence": (no_licence, "names no licence in a README.md: give it with --licence"),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_is_refused(table: Path, tuned: Path, change: Callable[[Path], None], words: str) -> None:
    change(tuned)
    before = table.read_bytes()
    with pytest.raises(Exception, match=words):
        add_pin(str(tuned), table)
    assert table.read_bytes() == before
    assert {path.name for path in table.parent.iterdir()} == {"Tuned-1B", "pins.yaml"}


def test_line_ends_and_links_stay(table: Path, tuned: Path) -> None:
    before = table.read_text().replace("\n", "\r\n").encode()
    table.write_bytes(before)
    link = table.with_name("link.yaml")
    link.symlink_to(table.name)
    add_pin(str(tuned), link)
    after = table.read_bytes()
    assert link.is_symlink() and "Tuned-1B" in read_pins(table).models
    assert after.count(b"\r\n") == after.count(b"\n") > before.count(b"\n")
    assert {*before.splitlines()} <= {*after.splitlines()}


def test_a_pin_is_never_replaced(table: Path, tuned: Path) -> None:
    add_pin(str(tuned), table)
    with pytest.raises(RecipeError, match=r"has models\.Tuned-1B already: remove it first"):
        add_pin(str(tuned), table)


def test_a_pin_that_leaves_a_template_out_is_refused(
    hub: LoopbackHub, library: Library, table: Path, tuned: Path, tmp_path: Path
) -> None:
    hub.add_model(REPO, tuned)
    assert library("requant.pipeline.new_pin.add_pin", REPO, table) == ""
    lines = [line for line in table.read_text().splitlines() if "chat_template.jinja" not in line]
    table.write_text("\n".join(lines) + "\n")
    for mirror in ("huggingface", str(tuned)):
        out = tmp_path / "results" / "source"
        said = fetched(library, read_pins(table).models["Tuned-1B"], mirror, out)
        assert "holds chat_template.jinja, which the converter reads and the pin of Tuned-1B lacks" in said
        assert "chat_template.jinja: {}" in said
        assert not out.exists()
    assert not hub.seen(f"*{SHARDS[0]}", "GET"), "before the first byte of weights"


def test_a_shard_that_the_index_names_and_the_pin_lacks(
    hub: LoopbackHub, library: Library, table: Path, tuned: Path, tmp_path: Path
) -> None:
    (tuned / "extra.safetensors").write_text("weights")
    index = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": "extra.safetensors"}}
    (tuned / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.add_model(REPO, tuned)
    assert library("requant.pipeline.new_pin.add_pin", REPO, table) == ""
    lines = [line for line in table.read_text().splitlines() if "extra.safetensors" not in line]
    table.write_text("\n".join(lines) + "\n")
    said = fetched(library, read_pins(table).models["Tuned-1B"], "huggingface", tmp_path / "results" / "source")
    assert "model.safetensors.index.json names extra.safetensors, which the pin of Tuned-1B lacks" in said
    assert not hub.seen(f"*{SHARDS[0]}", "GET"), "before the first byte of weights"


@pytest.mark.parametrize("model", ["Tuned-1B", "Qwen3-4B-Thinking-2507"])
def test_a_new_recipe_can_be_run(table: Path, tuned: Path, tmp_path: Path, model: str) -> None:
    add_pin(str(tuned), table)
    new_recipe(model, table, tmp_path / "recipe.yaml", "somebody")
    document = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    recipe = load_recipe(document | ({"source": str(tuned)} if model == "Tuned-1B" else {}), ROOT)
    assert (recipe.name, recipe.card["publisher"]) == (model, "somebody")
    assert recipe.card["base_model"] == ("none" if model == "Tuned-1B" else "Qwen/Qwen3-4B-Thinking-2507")
    with pytest.raises(RecipeError, match="exists already"):
        new_recipe(model, table, tmp_path / "recipe.yaml", "x")
    with pytest.raises(RecipeError, match=r"has no models\.Other; write one of"):
        new_recipe("Other", table, tmp_path / "other.yaml", "x")
