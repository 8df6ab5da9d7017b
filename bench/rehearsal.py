"""Rehearse the default recipe at full size, without a hub: random weights in its model's shape, from a loopback Hub.

The recipe is carried out as it stands, but for its pins and the number of chunks. Then a second folder is killed in the
middle of the download, of the conversion and of the calibration, and gone on with after each: it must come to the same
bytes. ``make rehearsal`` prepares and runs it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import click
import yaml
from report import machine
from sampler import Sampler, disk_used

from requant.ground.digests import digest_file, write_bytes
from requant.ground.disk import require_space
from requant.ground.errors import RequantError, ToolError
from requant.pipeline.tiny_shape import TINY_FILES

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
BIN = Path(sys.executable).parent
DEFAULT = ROOT / "config" / "config.yaml"
PINS = ROOT / "config" / "pins.yaml"
TEXTS = {"train": "docs.train.txt", "test": "docs.test.txt"}
CHUNKS = {"calibration": 10, "fidelity": 4}
BUILDS = ("fetch_toolchain", "build_tool", "build_backend", "build_datasets")
CALIBRATED = ("--until", "calibrate")
ROOM = 3.3
"""What a rehearsal takes on the disk beside the random weights, in sizes of these."""
LONG = 60
"""Of fewer seconds, a sampler that looks four times a second says nothing."""
HEAD = """# A rehearsal at full size

Written by `make rehearsal`: the default recipe but for its pins and the number of chunks, with random weights in its
model's shape, fetched from a hub on the loopback interface; llama.cpp was built before.

- Machine: {processor} ({architecture}), {cores} cores; flags: {flags}; load before: {load_before}
- Weights: {gigabytes:.2f} GB; {calibration} chunks to calibrate, {fidelity} to measure
- Whole run: {minutes:.1f} minutes, at a mean load of {load:.1f}; the same command again: {again:.0f} s
- Most on the disk at any time: {most:.1f} GB

| step | s | CPU, s | most memory, GB | read, GB | written, GB | llama.cpp alone, s |
|---|---|---|---|---|---|---|"""
INTERRUPTED = """

## Killed and gone on with

| killed in the middle of | after, s | fetched, GB |
|---|---|---|"""
EQUAL = """
Each run went on where the one before was killed. The BF16 GGUF and the importance matrix were those of the run that
nothing interrupted.
"""


@dataclass(frozen=True)
class Folder:
    """A folder in which ``recipe`` is carried out, and what the programs in it find in their environment."""

    path: Path
    recipe: Path
    env: Mapping[str, str]

    @property
    def results(self) -> Path:
        """Where the recipe's results lie."""
        return self.path / "results" / yaml.safe_load(self.recipe.read_text(encoding="utf-8"))["name"]

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the workflow, in a session of its own, so that all of it can be killed at once."""
        command = [BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", self.recipe]
        command += ["--directory", self.path, "--cores", str(len(os.sched_getaffinity(0))), *arguments]
        return subprocess.Popen(command, env={**os.environ, **self.env}, start_new_session=True)

    def run(self, *arguments: str) -> float:
        """Carry the recipe out; gives wall seconds.

        Raises:
            ToolError: when the workflow failed; it has said why.
        """
        begin = time.monotonic()
        process = self.start(*arguments)
        try:
            if process.wait():
                raise ToolError(f"the run in {self.path} failed, see above")
        finally:
            kill(process)
        return time.monotonic() - begin

    def kill_when(self, reached: Callable[[], bool], *arguments: str) -> float:
        """Carry the recipe out, and kill all of it as soon as ``reached``; gives wall seconds.

        Raises:
            ToolError: when the run ended before.
        """
        begin = time.monotonic()
        process = self.start(*arguments)
        try:
            while not reached():
                if process.poll() is not None:
                    raise ToolError(f"the run in {self.path} ended before it could be killed, see above")
                time.sleep(0.05)
        finally:
            kill(process)
        return time.monotonic() - begin


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End a run with all that it started, as far as it has not ended; also where the rehearsal is interrupted."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def prepare(path: Path, recipe: Path, toolchains: Path, env: Mapping[str, str]) -> Folder:
    """An empty folder that shares ``toolchains``."""
    shutil.rmtree(path, ignore_errors=True)
    (path / "results").mkdir(parents=True)
    (path / "results" / "toolchains").symlink_to(toolchains.resolve())
    return Folder(path, recipe, env)


def stand_in(place: Path, recipe: Path, toolchains: Path) -> Folder:
    """The folder with the random checkpoint and the texts, which the next rehearsal uses again."""
    folder = Folder(place / "made", recipe, {})
    if not folder.path.exists():
        prepare(folder.path, recipe, toolchains, {})
    targets = ("generated/source.json", "corpus/corpus.json")
    folder.run(*(str((folder.results / target).relative_to(folder.path)) for target in targets))
    return folder


def serve(hub: Any, made: Folder, place: Path) -> tuple[Path, Mapping[str, str]]:
    """Serve the checkpoint and the texts where the default recipe's pins look for them, and pin both.

    Returns:
        the recipe, which is the default one but for pins and chunks; what programs must find in their environment.
    """
    from support.wikitext import add_wikitext, wikitext_pin

    recipe = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    table = yaml.safe_load(PINS.read_text(encoding="utf-8"))
    repo = table["models"][recipe["model"]["pin"]]["repo"]
    served = place / "served"
    shutil.rmtree(served, ignore_errors=True)
    (served / "model").mkdir(parents=True)
    for name in TINY_FILES:
        (served / "model" / name).symlink_to((made.results / "generated" / name).resolve())
    (served / "model" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    hub.add_model(repo, served / "model")
    corpus = made.results / "corpus"
    found = add_wikitext(hub, served / "texts", {split: corpus / name for split, name in TEXTS.items()})
    env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(place.resolve() / "hf")}
    table["corpora"][recipe["corpus"]["pin"]] = wikitext_pin(*found)
    del table["models"][recipe["model"]["pin"]]
    pins, path = place / "pins.yaml", place / "recipe.yaml"
    pins.write_text(yaml.safe_dump(table, sort_keys=False))
    command = [BIN / "requant", "pin", repo, "--name", recipe["model"]["pin"], "--pins", pins]
    if subprocess.run(command, env={**os.environ, **env}, check=False).returncode:
        raise ToolError("requant pin failed, see above")
    recipe["pins"] = str(pins.resolve())
    recipe["calibration"]["chunks"] = CHUNKS["calibration"]
    recipe["evaluation"]["fidelity"]["chunks"] = CHUNKS["fidelity"]
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False))
    return path, env


def measured(folder: Folder) -> dict[str, Any]:
    """Carry the recipe out once, and once more when all is there."""
    with Sampler(folder.path / "results") as sampler:
        seconds = folder.run()
    steps = []
    for path in sorted((folder.results / "benchmarks").glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        entry = json.loads(path.read_text().splitlines()[-1])
        end = path.stat().st_mtime
        tool = sampler.tool_seconds(end - entry["s"] - 0.5, end)
        steps.append({"name": path.stem, "end": end, "tool": tool, **entry})
    again = folder.run()
    return {"seconds": seconds, "again": again, "disk": sampler.disk, "load": mean(sampler.loads), "steps": steps}


def products(folder: Folder) -> dict[str, str]:
    """SHA-256 of what is calibrated and what comes of it."""
    bf16 = folder.results / "bf16" / "converted" / f"{folder.results.name}.gguf"
    return {path.name: digest_file(path).sha256 for path in (bf16, folder.results / "calibration" / "imatrix.gguf")}


def interrupted(folder: Folder, hub: Any, first: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Kill a run up to the importance matrix in the middle of each of its three steps, and go on after each."""
    seconds = {step["name"]: step["s"] for step in first["steps"]}
    work = folder.results / "calibration" / "work" / "model.gguf"

    def calibrated() -> bool:
        return work.is_symlink() and time.time() - work.lstat().st_mtime > seconds["calibrate"] / 2

    moments = {
        "the download": lambda: disk_used(folder.results / "download") > size / 2,
        "the conversion": lambda: disk_used(folder.results / "bf16") > size / 2,
        "the calibration": calibrated,
    }
    table = []
    for name, reached in moments.items():
        sent = sum(exchange.sent for exchange in hub.requests)
        lost = folder.kill_when(reached, *CALIBRATED)
        fetched = sum(exchange.sent for exchange in hub.requests) - sent
        table.append({"killed_in": name, "seconds": lost, "fetched": fetched})
        click.echo(f"killed in the middle of {name}, after {lost:.0f} s")
    sent = sum(exchange.sent for exchange in hub.requests)
    end = folder.run(*CALIBRATED)
    fetched = sum(exchange.sent for exchange in hub.requests) - sent
    return [*table, {"killed_in": None, "seconds": end, "fetched": fetched}]


def rehearse(place: Path, recipe: Path, toolchains: Path) -> str:
    """Rehearse; gives the tables as Markdown.

    Raises:
        ToolError: when a run failed, or the interrupted run came to other bytes.
    """
    from support.hub import LoopbackHub

    here = machine()
    made = stand_in(place, recipe, toolchains)
    size = sum((made.results / "generated" / name).stat().st_size for name in TINY_FILES)
    for name in ("run", "killed"):
        shutil.rmtree(place / name, ignore_errors=True)
    require_space(place, int(ROOM * size), "the rehearsal")
    with LoopbackHub() as hub:
        own, env = serve(hub, made, place)
        folder = prepare(place / "run", own, toolchains, env)
        folder.run("--until", *BUILDS)
        first = measured(folder)
        expected = products(folder)
        shutil.rmtree(folder.path)
        killed = prepare(place / "killed", own, toolchains, env)
        rounds = interrupted(killed, hub, first, size)
        if products(killed) != expected:
            raise ToolError(f"the interrupted run in {killed.path} came to other bytes: {products(killed)}, {expected}")
        shutil.rmtree(killed.path)
    return render(here, size, first, rounds)


def render(here: Mapping[str, Any], size: int, first: Mapping[str, Any], rounds: list[dict[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = [HEAD.format(
        **here | {"flags": ", ".join(here["flags"]) or "none"}, **first, **CHUNKS,
        gigabytes=size / 1e9, minutes=first["seconds"] / 60, most=first["disk"] / 1e9,
    )]  # fmt: skip
    for step in first["steps"]:
        tool = f"{step['tool']:.1f}" if step["tool"] else ""
        numbers = [step["s"], step["cpu_time"], *(gigabytes(step[key]) for key in ("max_rss", "io_in", "io_out"))]
        lines.append(f"| {step['name']} | {' | '.join(map(shown, numbers))} | {tool} |")
    lines.append(f"\n{overhead(first)}{INTERRUPTED}")
    for row in rounds:
        name = row["killed_in"] or "nothing: up to the importance matrix"
        lines.append(f"| {name} | {row['seconds']:.0f} | {row['fetched'] / 1e9:.2f} |")
    return "\n".join([*lines, EQUAL])


def overhead(first: Mapping[str, Any]) -> str:
    """What the workflow takes beside llama.cpp's programs, in words."""
    own = [step for step in first["steps"] if step["tool"]]
    wall, bare = sum(step["s"] for step in own), sum(step["tool"] for step in own)
    between = f"Starting, ending and the time between steps: {first['seconds'] - covered(first['steps']):.1f} s."
    if bare < LONG:
        return between
    return f"Steps that run llama.cpp take {100 * (wall / bare - 1):.1f} % longer than its programs alone. {between}"


def covered(steps: list[dict[str, Any]]) -> float:
    """For how many seconds at least one step was at work."""
    total = reached = 0.0
    for begin, end in sorted((step["end"] - step["s"], step["end"]) for step in steps):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def gigabytes(megabytes: float | str) -> float | str:
    """Snakemake's mebibytes in gigabytes; it writes NA where a step was too short to look at."""
    return megabytes * 2**20 / 1e9 if isinstance(megabytes, int | float) else megabytes


def shown(value: float | str) -> str:
    """A number of the table."""
    return f"{value:.1f}" if isinstance(value, int | float) else value


@click.command()
@click.option("--place", default=ROOT / "build" / "rehearsal", type=click.Path(path_type=Path), help="where to work")
@click.option("--model", default=ROOT / "bench" / "full.yaml", type=click.Path(path_type=Path), help="the stand-in")
@click.option("--toolchains", default=ROOT / "results" / "toolchains", type=click.Path(path_type=Path))
@click.option("--out", default=ROOT / "docs" / "benchmarks-full-size.md", type=click.Path(path_type=Path))
def main(place: Path, model: Path, toolchains: Path, out: Path) -> None:
    """Write the tables into OUT; half an hour to an hour on two cores, and 35 GB of disk."""
    try:
        toolchains.mkdir(parents=True, exist_ok=True)
        text = rehearse(place, model.resolve(), toolchains)
        write_bytes(out, text.encode())
    except RequantError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo(text)


if __name__ == "__main__":
    main()
