"""requant.pipeline.needs: enough for what was measured at full size, not much more, and growing with the model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from requant.documents.records import file_entry, write_record
from requant.documents.schemas import read_yaml
from requant.ground.digests import Digest, Known
from requant.pipeline.needs import STEPS, Needs, model_bytes
from requant.pipeline.recipe import KEEP_ALL, Recipe, bytes_after_download, load_recipe
from support.checkout import ROOT

ROW = re.compile(r"^\| (\w[\w.-]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", re.MULTILINE)
MEASURED = {
    name: (float(seconds), float(memory))
    for name, seconds, _, memory in ROW.findall((ROOT / "docs" / "benchmarks-full-size.md").read_text())
}
"""Seconds and GB of each step of the rehearsal, on two cores."""
RULES = "".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
THREADS = 2


SHARDS = (3_957_900_840, 3_987_450_520, 99_630_640)
"""Those of Qwen3-4B-Thinking-2507, which its pin leaves to the hub's record."""


def shipped(name: str) -> Recipe:
    return load_recipe(read_yaml(ROOT / "config" / name), ROOT)


def with_files(recipe: Recipe, sizes: Iterable[int | None]) -> Recipe:
    assert recipe.model
    files = {f"{number}.safetensors": Known(size) for number, size in enumerate(sizes)}
    return replace(recipe, model=replace(recipe.model, files=files))


def of_size(factor: int) -> Recipe:
    return with_files(shipped("config.yaml"), SHARDS * factor)


def rehearsed() -> Recipe:
    """The recipe as ``make rehearsal`` ran it: fewer chunks."""
    made = of_size(1)
    assert made.evaluation.fidelity
    fidelity = replace(made.evaluation.fidelity, chunks=4)
    return replace(
        made, calibration=replace(made.calibration, chunks=10), evaluation=replace(made.evaluation, fidelity=fidelity)
    )


@pytest.mark.parametrize(
    ("rule", "quant", "measured"),
    [
        ("convert_checkpoint", None, "convert_checkpoint"),
        ("calibrate", None, "calibrate"),
        ("quantize", "Q4_K_M", "quantize_Q4_K_M"),
        ("quantize_plain", "Q4_K_M", "quantize_plain_Q4_K_M"),
        ("measure_baseline", None, "measure_baseline"),
        ("measure_quant", "Q4_K_M", "measure_Q4_K_M-imatrix"),
        ("measure_tensors", "Q4_K_M", "measure_tensors_Q4_K_M"),
        ("measure_speed", None, "measure_speed"),
        ("place_quant", None, "place_Qwen3-4B-Thinking-2507-Q4_K_M-imatrix"),
        ("write_sums", None, "write_sums"),
    ],
)
def test_what_was_measured_fits_with_room_and_is_not_far_off(rule: str, quant: str | None, measured: str) -> None:
    need, (seconds, memory) = Needs(rehearsed()).of(rule, quant), MEASURED[measured]
    assert need
    # What works tensor by tensor has room for one as large as a file.
    assert 1.08 * memory < need.mem_mb(THREADS) / 1000 < 15.1 + 1.6 * memory
    # A machine half as fast, with a slow disk, is as good.
    assert 600 + 1.8 * seconds < 60 * need.minutes(THREADS) < 1200 + 10 * seconds


def test_every_rule_that_runs_on_a_node_is_known_and_asks() -> None:
    """All others stay beside Snakemake: those that fetch, where a node may have no network, and those of seconds."""
    rules = re.split(r"^ *(?:rule|checkpoint|use rule \w+ as) ", RULES, flags=re.MULTILINE)[1:]
    asking = {rule.split(maxsplit=1)[0].rstrip(":") for rule in rules if "localrule: True" not in rule}
    assert asking - {"audit"} == {*STEPS, "build_tool", "build_backend"}
    for name in asking - {"audit", "place_imatrix"}:
        assert f'mem_mb=mem_mb("{name}")' in RULES
        assert f'runtime=runtime("{name}")' in RULES


@pytest.mark.parametrize("step", STEPS)
def test_a_larger_model_needs_no_less_and_more_threads_no_longer(step: str) -> None:
    small, large = (Needs(of_size(factor)).of(step, "Q4_K_M") for factor in (1, 10))
    assert small and large
    assert small.mem_mb(8) <= large.mem_mb(8)
    assert small.minutes(8) <= large.minutes(8)
    assert large.minutes(64) <= large.minutes(8)


def test_only_a_loaded_model_takes_memory_of_its_size() -> None:
    """A tensor is as large as its file at most, however many files there are."""
    needs = Needs(of_size(58))
    for step in ("quantize", "convert_checkpoint", "measure_tensors", "place_quant", "write_sums"):
        need = needs.of(step, "Q4_K_M")
        assert need and need.mem_mb(16) < 16_000, step
    loaded = needs.of("calibrate")
    assert loaded and loaded.mem_mb(16) > 467_000


def test_grid_types_take_longer_and_quants_less_memory_than_the_model() -> None:
    needs = Needs(of_size(1))
    limits = [needs.of("quantize", quant) for quant in ("Q4_K_M", "IQ2_XS")]
    assert limits[0] and limits[1] and limits[0].minutes(4) < limits[1].minutes(4)
    serving = [needs.of("measure_behaviour", label) for label in ("Q2_K", "BF16")]
    assert serving[0] and serving[1] and serving[0].mem_mb(4) < serving[1].mem_mb(4)


def test_the_generated_model_is_as_large_as_its_file() -> None:
    """84 MB, most of it the embedding (tests/golden)."""
    weights, tensor = model_bytes(shipped("tiny.yaml")) or (0, 0)
    assert 0.9 * weights < tensor < weights
    assert 83e6 < weights < 85e6


def test_a_pin_without_sizes_waits_for_the_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = with_files(shipped("config.yaml"), [None])
    needs = Needs(made)
    assert all(needs.of(step) is None for step in STEPS)
    record = Path("results", made.name, "source", "source.json")
    record.parent.mkdir(parents=True)
    write_record(record, {"files": [file_entry(f"{size}.safetensors", Digest(size, "0" * 64)) for size in SHARDS]})
    assert needs.of("calibrate") == Needs(of_size(1)).of("calibrate")


@pytest.mark.parametrize(
    "files", ['[{"name": "a", "size": Infinity}]', "[{}]", "7", '[{"name": "a", "size": []}]', "[" * 5000]
)
def test_a_damaged_record_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str) -> None:
    """Rules are only read then; the step that reads the record next says what is wrong."""
    monkeypatch.chdir(tmp_path)
    made = with_files(shipped("config.yaml"), [None])
    record = Path("results", made.name, "source", "source.json")
    record.parent.mkdir(parents=True)
    record.write_text(f'{{"files": {files}}}')
    assert model_bytes(made) is None
    record.write_text('{"files": [{"name": null, "size": 3}]}')
    assert model_bytes(made) == (3, 3)


def test_a_build_needs_memory_for_each_compiler() -> None:
    build = Needs(with_files(shipped("config.yaml"), [None])).of("build_tool")
    assert build and build.mem_mb(16) - build.mem_mb(8) == 8000


def test_a_quantized_gguf_is_counted_as_what_it_expands_to() -> None:
    made = shipped("smollm2.yaml")
    assert made.model
    [size] = [known.size for known in made.model.files.values()]
    assert model_bytes(made) == (4 * (size or 0), 4 * (size or 0))


CLUSTER = ROOT / "docs" / "cluster.md"
SIZES = {"4 B": 8_050_000_000, "30 B": 61_100_000_000, "235 B": 470_000_000_000}
LARGEST, NODE = 4_000_000_000, 16
"""Bytes of a file of the weights, as the Hub's are cut, and threads of a node."""


def asked(step: str, quant: str | None) -> str:
    """A step's row of the table in docs/cluster.md."""
    block = re.search(rf"^rule {step}:\n(?:(?:    .*)?\n)+", RULES, re.MULTILINE)
    assert block
    threads = NODE if "threads: MANY" in block[0] else 1
    cells = [f"`{step}`", str(threads)]
    for size in SIZES.values():
        whole, rest = divmod(size, LARGEST)
        need = Needs(with_files(shipped("config.yaml"), [LARGEST] * whole + [rest])).of(step, quant)
        assert need
        minutes = need.minutes(threads)
        cells += [f"{need.mem_mb(threads) / 1000:.0f}", f"{minutes // 60}:{minutes % 60:02}"]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_what_jobs_ask_for() -> None:
    nodes = {
        name: None
        for name in STEPS
        if name not in ("generate_model", "expand_gguf", "answer_question", "place_imatrix")
    }
    quants = dict.fromkeys(("quantize", "quantize_plain", "measure_quant", "measure_tensors"), "Q4_K_M")
    rows = [
        asked(step, quant) for step, quant in {**nodes, **quants, "build_tool": None, "build_backend": None}.items()
    ]
    text = CLUSTER.read_text(encoding="utf-8")
    assert "\n".join(rows) in text, "write this into docs/cluster.md and its twin:\n" + "\n".join(rows)


@pytest.mark.parametrize("document", [CLUSTER, CLUSTER.with_name("cluster.zh-CN.md")], ids=["en", "zh"])
def test_the_disk_of_large_models(document: Path) -> None:
    """At most, for the weights and one quant, by what stays."""
    text = document.read_text(encoding="utf-8")
    for keep in (KEEP_ALL, ()):
        sizes = [SIZES[name] + bytes_after_download(SIZES[name], ("Q4_K_M",), keep) for name in ("30 B", "235 B")]
        assert " | ".join(f"{size / 10**9:,.0f} GB" for size in sizes) in text
