"""``make test-slurm``: the demo's recipe on the two nodes of a real Slurm, one of which loses its power meanwhile."""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from requant.pipeline.needs import Needs
from requant.pipeline.recipe import load_recipe
from support.checkout import ROOT
from support.slurm import Cluster, Job
from support.workplace import TINY, TOOLCHAIN, Workplace, prepare, tiny_recipe

GOLDEN = json.loads((ROOT / "tests" / "golden" / "tiny.json").read_text())
PROFILE = ("--workflow-profile", str(ROOT / "profiles" / "slurm"), "--max-threads", "1")
OFTEN = ("--slurm-init-seconds-before-status-checks", "3")
IMATRIX = "results/Tiny-Qwen3/calibration/imatrix.gguf"
RECIPE = {**copy.deepcopy(TINY), "quants": ["Q4_K_M", "Q2_K_S"]}
# Its questions are a matter of one machine.
del RECIPE["evaluation"]["behaviour"]
LONG = 1800
"""Seconds, for a machine that does something else, too."""
SNAKEMAKE = (sys.executable, "-m", "snakemake")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Made:
    """What a run left, and what it said; ``killed`` is the node that lost its power meanwhile."""

    workplace: Workplace
    killed: str
    jobs: list[Job]
    said: str


@pytest.fixture(scope="module")
def calibrated(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run up to the importance matrix, in which the node that computes it is killed."""
    workplace = prepare(tmp_path_factory.mktemp("slurm") / "work", RECIPE)
    workplace.snakemake = SNAKEMAKE
    begun = workplace.results / "calibration" / "work" / "imatrix.gguf"
    with workplace.start(*PROFILE, *OFTEN, IMATRIX) as run:
        try:
            # llama-imatrix writes it every ten chunks.
            cluster.wait(lambda: begun.exists() or run.poll() is not None, "a calibration that has begun", LONG)
            assert run.poll() is None, run.communicate()[0]
            killed = cluster.running("calibrate")
            assert killed
            cluster.kill(killed)
            said, _ = run.communicate(timeout=LONG)
        finally:
            run.kill()
    assert run.returncode == 0, said
    return Made(workplace, killed, cluster.jobs(), said)


@pytest.fixture(scope="module")
def made(cluster: Cluster, calibrated: Made) -> Made:
    """The run that goes on from there, when the node is back."""
    cluster.revive(calibrated.killed)
    cluster.wait(lambda: cluster.states()[calibrated.killed] == "idle", f"{calibrated.killed} to come back")
    # Nothing else waits for the two nodes while the quants do.
    said = calibrated.workplace.run(*PROFILE, *OFTEN, "--until", "quantize")
    said += calibrated.workplace.run(*PROFILE, *OFTEN)
    return Made(calibrated.workplace, "", cluster.jobs()[len(calibrated.jobs) :], said)


def test_a_killed_node_costs_one_job(calibrated: Made) -> None:
    """Slurm starts it again on the other node, and the run goes on by itself, to the bytes of one machine."""
    tries = Counter(job.number for job in calibrated.jobs)
    [again] = [number for number, count in tries.items() if count > 1]
    lost, done = [job for job in calibrated.jobs if job.number == again]
    assert (lost.rule, lost.node, lost.state) == ("calibrate", calibrated.killed, "NODE_FAIL")
    assert (done.rule, done.state) == ("calibrate", "COMPLETED")
    assert done.node not in ("", calibrated.killed)
    assert {job.state for job in calibrated.jobs if job != lost} == {"COMPLETED"}
    assert sha256(calibrated.workplace.folder / IMATRIX) == GOLDEN["imatrix.gguf"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("model.gguf", "bf16/converted/Tiny-Qwen3.gguf"),
        ("imatrix.gguf", "release/imatrix.gguf"),
        ("Tiny-Qwen3-Q4_K_M.gguf", "release/Tiny-Qwen3-Q4_K_M.gguf"),
    ],
)
def test_the_release_is_that_of_one_machine(made: Made, name: str, path: str) -> None:
    assert sha256(made.workplace.results / path) == GOLDEN[name]


def test_quants_are_made_at_the_same_time_on_both_nodes(made: Made) -> None:
    jobs = [job for job in made.jobs if job.rule == "quantize"]
    assert {job.comment for job in jobs} == {"rule_quantize_wildcards_Q4_K_M", "rule_quantize_wildcards_Q2_K_S"}
    one, other = jobs
    assert {one.node, other.node} == {"d1", "d2"}
    assert max(one.start, other.start) < min(one.end, other.end)


def test_it_was_measured_on_the_nodes(made: Made) -> None:
    done = Counter(job.rule for job in made.jobs)
    assert (done["measure_baseline"], done["measure_quant"], done["measure_tensors"], done["measure_speed"]) == (
        1,
        3,
        2,
        1,
    )
    assert (made.workplace.results / "report.html").exists()


def test_limits_reach_slurm(calibrated: Made, made: Made) -> None:
    needs = Needs(load_recipe(RECIPE, ROOT))
    asked: dict[str, tuple[int, int, int]] = {}
    for job in (*calibrated.jobs, *made.jobs):
        _, _, wildcards = job.comment.partition("_wildcards_")
        quant = next((kind for kind in RECIPE["quants"] if kind in wildcards), None)
        need = needs.of(job.rule, None if job.rule.startswith("place") else quant)
        assert need, job
        assert (job.memory, job.minutes, job.processors, job.gpus) == (need.mem_mb(1), need.minutes(1), 1, 0), job
        asked[job.rule] = job.memory, job.minutes, job.processors
    assert asked.keys() >= {"calibrate", "quantize", "measure_speed", "place_quant", "write_sums"}
    print("\n| job | memory, MB | minutes | processors |")
    for rule, limits in asked.items():
        print(f"| {rule} | {' | '.join(map(str, limits))} |")


def test_names_and_logs_are_for_people(calibrated: Made, made: Made) -> None:
    """A job's name is that of the run, which the plugin asks for, so what it does stands in its comment."""
    assert all(job.name.startswith("requant_") for job in made.jobs)
    assert "rule_calibrate" in {job.comment for job in calibrated.jobs}
    log = made.workplace.results / "logs" / "quantize_Q2_K_S.log"
    assert "llama_model_quantize" in log.read_text()
    assert ".snakemake/slurm_logs/rule_quantize/Q2_K_S/" in made.said


def test_shards_are_calibrated_on_both_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """And add up to the bytes of a run without a cluster."""
    recipe = tiny_recipe()
    recipe["calibration"] |= {"chunks": 12, "shards": 2}
    shared, alone = (prepare(tmp_path / name, recipe) for name in ("shared", "alone"))
    shared.snakemake = alone.snakemake = SNAKEMAKE
    before = len(cluster.jobs())
    shared.run(*PROFILE, *OFTEN, IMATRIX)
    jobs = [job for job in cluster.jobs()[before:] if job.rule == "calibrate"]
    assert [job.node for job in sorted(jobs, key=lambda job: job.node)] == ["d1", "d2"]
    assert {job.minutes for job in jobs} == {Needs(load_recipe(recipe, ROOT)).of("calibrate").minutes(1)}  # type: ignore[union-attr]
    alone.run(IMATRIX)
    assert (shared.folder / IMATRIX).read_bytes() == (alone.folder / IMATRIX).read_bytes()


def test_a_gpu_is_asked_for(cluster: Cluster, tmp_path: Path) -> None:
    """The job gets a node that promises one, and there refuses inputs that nobody made."""
    recipe = copy.deepcopy(TINY)
    recipe["calibration"]["arithmetic"] = "cuda-sm86"
    workplace = Workplace(tmp_path / "work", snakemake=SNAKEMAKE)
    toolchain = workplace.folder / "results" / "toolchains" / TOOLCHAIN
    own = [
        workplace.results / name
        for name in ("bf16/converted/Tiny-Qwen3.gguf", "bf16/converted/model.json", "corpus/docs.train.txt")
    ]
    for path in (*own, toolchain / "strict/bin/llama-imatrix.json", toolchain / "cuda-sm86/build.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    workplace.write(recipe)
    before = len(cluster.jobs())
    said = workplace.run(*PROFILE, *OFTEN, "--retries", "0", "--allowed-rules", "calibrate", "--", IMATRIX, ok=False)
    [job] = cluster.jobs()[before:]
    assert (job.rule, job.gpus, job.state) == ("calibrate", 1, "FAILED"), said
    assert "failed: calibrating Tiny-Qwen3 on docs.train.txt" in said
