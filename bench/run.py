"""Measure calibration and quantization side by side: requant's builds and upstream's own, on this machine.

In every round each contender runs once, in rotating order, so that a machine that slows down slows all of them alike.
The commands are the ones that the demo recorded, with other chunk counts and types. ``make bench`` prepares and runs
it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import yaml
from report import add_ratios, machine, render, tool_times

from requant.documents.records import Product, file_entry, read_record
from requant.ground.digests import digest_file, write_bytes
from requant.ground.errors import FormatError, RequantError, ToolError
from requant.ground.programs import Run, capture, work_folder
from requant.toolchain.backend import FEATURE, LEVEL, LOADED
from requant.toolchain.build import Built, open_built
from requant.toolchain.lanes import LIBRARY as LANES_LIBRARY
from requant.toolchain.lanes import THERE
from requant.toolchain.tree import proven_tree
from requant.toolchain.variants import COMMON, LANES, NO_TOOLS, NO_X86_LEVELS, PORTABLE, variant

RECIPE, LARGE = Path("bench/wide.yaml"), Path("bench/large.yaml")
BENCH = Path("results/bench")
DEMO = Path("results/Tiny-Qwen3")
CHUNKS = {"Wide-Qwen3": 3, "Tiny-Qwen3": 8}
LIBRARY = "libggml-cpu.so"
TYPES = ("Q2_K", "Q3_K_M", "Q5_K_M", "Q6_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "IQ4_XS")

AVX2 = {**COMMON, **NO_TOOLS, **dict.fromkeys(NO_X86_LEVELS, "ON"), "GGML_LLAMAFILE": "ON"}
# Upstream's own defaults, but nothing downloaded, and no git, which would call the proven source "-dirty".
DEFAULT = {"LLAMA_USE_PREBUILT_UI": "OFF", "GIT_EXE": "OFF"}


@dataclass(frozen=True)
class Contender:
    """Programs, and what they load: an inference backend, a library ahead of their own; None where there is none.

    ``level`` is the best instruction set that ours may use.
    """

    name: str
    tools: Built
    backend: Path | None = None
    ahead: Path | None = None
    level: str | None = None


@dataclass(frozen=True)
class Task:
    """One command that all contenders run: on which files, and the file it writes."""

    name: str
    subject: str
    contenders: Sequence[Contender]
    command: Sequence[str]
    links: Mapping[str, Path]
    product: str
    facts: Mapping[str, Any]


def upstream(name: str, definitions: Mapping[str, str], targets: Sequence[str], source: Path, threads: int) -> Path:
    """Build ``targets`` of llama.cpp as upstream does, in ``results/bench/<name>``; return the folder they are in.

    The build folder is kept: without changes, a second call takes a second.
    """
    log = BENCH / f"build_{name}.log"
    cmake, ninja = (str(Path(sys.executable).parent / program) for program in ("cmake", "ninja"))
    arguments = [f"-D{key}={value}" for key, value in {**definitions, "CMAKE_MAKE_PROGRAM": ninja}.items()]
    click.echo(f"building upstream's {' and '.join(targets)}, {name}: minutes the first time")
    with work_folder(BENCH / name, keep=True) as work:
        work.run([cmake, "-S", str(source.resolve()), "-B", ".", "-G", "Ninja", *arguments], log)
        work.run([ninja, f"-j{threads}", *targets], log)
    return (BENCH / name / "bin").resolve()


def portable_backend(record: Path) -> Built:
    """The portable backend, which must be the one that this checkout's code gives.

    Raises:
        ToolError: when our own code was changed since.
    """
    built = open_built(record)
    ours = [file_entry(path.name, digest_file(path)) for path in variant(PORTABLE).sources]
    if built.document["own_code"] != ours:
        raise ToolError(f"workflow/native was changed since the backend was built: remove {record} and run again")
    return built


def run_once(task: Task, contender: Contender, threads: int, log: Path) -> dict[str, Any]:
    """Run the task's command with one contender; an importance matrix is kept in ``results/bench``.

    Returns:
        Wall time of the ``process``, the time it spent ``computing`` and on the ``first_pass`` as far as its log says
        so, all in seconds; the product's ``sha256``; the ``features`` of the processor that the backend uses.
    """
    lines: list[str] = []
    with work_folder(BENCH / "work") as work:
        for name, path in task.links.items():
            work.link(path, name)
        if contender.backend:
            work.link(contender.backend, LIBRARY)
        env = {"REQUANT_LEVEL": contender.level} if contender.level else {}
        if contender.ahead:
            work.link(contender.ahead, contender.ahead.name)
            env["LD_PRELOAD"] = f"./{contender.ahead.name}"
        start = perf_counter()
        contender.tools.run(work, task.command, Run(threads, log), watch=lines.append, env=env)
        seconds = perf_counter() - start
        check_backend(contender, lines, work.path)
        product = work.path / task.product
        digest = digest_file(product)
        if task.product == "imatrix.gguf":
            product.replace(BENCH / f"{task.name}-{contender.name}.gguf")
    features = {found for line in lines if "system_info:" in line for found in FEATURE.findall(line)}
    features |= {f"level {match[1]}" for match in map(LEVEL.match, lines) if match}
    return {"process": round(seconds, 3), **tool_times(lines), "sha256": digest.sha256, "features": sorted(features)}


def check_backend(contender: Contender, lines: Sequence[str], work: Path) -> None:
    """Check what the tool says of the backend and the lanes that it loaded.

    Raises:
        ToolError: when these are others than the contender's.
    """
    loaded = [match[2] for match in map(LOADED.search, lines) if match]
    expected = [str(work.resolve() / LIBRARY)] if contender.backend else []
    portable = any(map(LEVEL.match, lines))
    if loaded != expected or portable != (contender.name == PORTABLE):
        raise ToolError(f"the run of {contender.name} loaded {', '.join(loaded) or 'no library'}: remove {BENCH}")
    lanes = [line for line in lines if THERE.match(line)]
    asked = f"level {contender.level}:" if contender.level else "level "
    if contender.name.startswith(LANES) != any(asked in line for line in lanes):
        raise ToolError(f"the run of {contender.name} had {'other lanes' if lanes else 'no lanes'}: remove {BENCH}")


def measure(task: Task, rounds: int, threads: int, log: Path) -> dict[str, Any]:
    """Run every contender in every round.

    Raises:
        FormatError: when the subject's product was not the same in all rounds.
    """
    runs: dict[str, list[dict[str, Any]]] = {contender.name: [] for contender in task.contenders}
    for number in range(rounds):
        first = number % len(task.contenders)
        for contender in [*task.contenders[first:], *task.contenders[:first]]:
            run = run_once(task, contender, threads, log)
            runs[contender.name].append(run)
            click.echo(f"{task.name}, round {number + 1} of {rounds}: {contender.name} took {run['process']:.1f} s")
    table = {name: {key: [run[key] for run in found] for key in found[0]} for name, found in runs.items()}
    for entry in table.values():
        entry["features"] = entry["features"][-1]
        entry["sha256"] = sorted(set(entry["sha256"]))
    if len(table[task.subject]["sha256"]) != 1:
        raise FormatError(f"{task.name}: {task.subject} gave other bytes in another round, see {log}")
    return {"name": task.name, "subject": task.subject, **task.facts, "contenders": table}


def model_facts(path: Path) -> dict[str, Any]:
    """Name and size of a BF16 GGUF, after checking it; that also brings it into the page cache."""
    document = Product(path, path.with_name("model.json")).read()
    weights = sum(prod(tensor["shape"]) for tensor in document["tensors"])
    return {"model": path.stem, "parameters": weights, "model_sha256": document["file"]["sha256"]}


def calibration(model: Path, contenders: Sequence[Contender]) -> Task:
    """Calibration of ``model``, as the demo does it, on fewer chunks."""
    command = list(read_record(DEMO / "calibration" / "imatrix.json")["step"]["command"])
    text = command[command.index("-f") + 1]
    chunks = CHUNKS[model.stem]
    command[command.index("--chunks") + 1] = str(chunks)
    links = {"model.gguf": model, text: DEMO / "corpus" / text}
    facts = {**model_facts(model), "command": command, "chunks": chunks}
    return Task(f"calibrate-{model.stem}", PORTABLE, contenders, command, links, "imatrix.gguf", facts)


def quantization(model: Path, imatrix: Path, contenders: Sequence[Contender], kind: str) -> Task:
    """Quantization of ``model`` to a type, as the demo does it to Q4_K_M."""
    command = list(read_record(DEMO / "quants" / "Q4_K_M.json")["step"]["command"])
    product = f"{model.stem}-{kind}.gguf"
    command[command.index(f"{DEMO.name}-Q4_K_M.gguf")] = product
    command[command.index("Q4_K_M")] = kind
    links = {"model.gguf": model, "imatrix.gguf": imatrix}
    facts = {**model_facts(model), "command": command, "type": kind}
    return Task(f"quantize-{model.stem}-{kind}", LANES, contenders, command, links, product, facts)


def without_search(tree: Path) -> Path:
    """A library whose functions have the names of llama.cpp's searches and write zeros: what is left is the limit."""
    out = (BENCH / "libno-search.so").resolve()
    source = Path(__file__).with_name("no_search.c").resolve()
    command = ["cc", "-O2", "-shared", "-fPIC", f"-I{tree.resolve() / 'ggml/include'}", str(source), "-o", str(out)]
    capture(command, Path.cwd())
    return out


def candidates(toolchain: Path, threads: int) -> tuple[list[Contender], list[Contender], dict[str, str]]:
    """Who calibrates, who quantizes (ours first), and who was left out for what reason; builds what is missing."""
    names = ("llama-imatrix", "llama-quantize")
    imatrix, quantize = (open_built(toolchain / "strict/bin" / f"{name}.json") for name in names)
    portable, native = portable_backend(toolchain / "portable/build.json"), open_built(toolchain / "native/build.json")
    source = proven_tree(toolchain / "source.json")
    default = Contender("default", Built(upstream("default", DEFAULT, names, source, threads), {}, {}))
    backends = {PORTABLE: portable.folder, "native": native.folder}
    left_out = {}
    if "avx2" in machine()["flags"]:
        backends["avx2"] = upstream("avx2", AVX2, ["ggml-cpu"], source, threads)
    else:
        left_out["avx2"] = "this processor has no AVX2"
    calibrating = [Contender(name, imatrix, folder / LIBRARY) for name, folder in backends.items()]
    library = open_built(toolchain / LANES / "build.json").folder / LANES_LIBRARY
    quantizing = [Contender(LANES, quantize, ahead=library), default, Contender("strict", quantize)]
    quantizing.append(Contender("limit", quantize, ahead=without_search(source)))
    if "avx512f" in machine()["flags"]:
        quantizing.append(Contender("lanes, AVX2", quantize, ahead=library, level="v3"))
    return [*calibrating, default], quantizing, left_out


def prepare(recipe: Path, targets: Sequence[Path], threads: int) -> None:
    """Make targets of a recipe with the workflow, where they are missing.

    Raises:
        ToolError: when a step failed; it has said why.
    """
    command = [str(Path(sys.executable).with_name("snakemake")), "--cores", str(threads), "--configfile", str(recipe)]
    if subprocess.run([*command, "--", *map(str, targets)], check=False).returncode:
        raise ToolError(f"what is measured of {recipe} could not be made, see above")


def bench(rounds: int, threads: int) -> dict[str, Any]:
    """Measure everything, and return the document that is written to benchmarks.json."""
    toolchain = Path("results/toolchains") / yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["toolchain"]
    wide, tiny, large = (
        Path("results") / name / "bf16/converted" / f"{name}.gguf" for name in (*CHUNKS, "Large-Qwen3")
    )
    matrix = Path("results/Large-Qwen3/calibration/imatrix.gguf")
    prepare(RECIPE, [wide, *(toolchain / name / "build.json" for name in (PORTABLE, "native", LANES))], threads)
    prepare(LARGE, [large, matrix], threads)
    calibrating, quantizing, left_out = candidates(toolchain, threads)
    build = read_record(toolchain / "portable/build.json")
    about = {"commit": build["commit"], "compiler": build["compilers"]["c"], "machine": machine()}
    log = BENCH / "bench.log"
    log.unlink(missing_ok=True)
    measured = [measure(calibration(model, calibrating), rounds, threads, log) for model in (wide, tiny)]
    measured.append(measure(quantization(large, matrix, quantizing, "Q4_K_M"), rounds, threads, log))
    matrix = BENCH / f"calibrate-{wide.stem}-{PORTABLE}.gguf"
    others = [quantization(wide, matrix, quantizing[:2], kind) for kind in TYPES]
    measured += [measure(other, rounds, threads, log) for other in others]
    return add_ratios({**about, "rounds": rounds, "threads": threads, "left_out": left_out, "measured": measured})


@click.command()
@click.option("--rounds", default=5, type=click.IntRange(min=1), help="how often each contender runs")
@click.option("--threads", default=len(os.sched_getaffinity(0)), type=click.IntRange(min=1), help="default: all cores")
@click.option("--out", default=Path("docs"), type=click.Path(path_type=Path), help="folder for the tables")
def main(rounds: int, threads: int, out: Path) -> None:
    """Write benchmarks.json and benchmarks.md into OUT; ``make bench`` makes what this needs."""
    os.chdir(Path(__file__).resolve().parents[1])
    try:
        document = bench(rounds, threads)
        write_bytes(out / "benchmarks.json", json.dumps(document, indent=2, sort_keys=True).encode() + b"\n")
        table = render(json.loads((out / "benchmarks.json").read_bytes()))
        write_bytes(out / "benchmarks.md", table.encode())
    except RequantError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except FileNotFoundError as error:
        click.echo(f"error: {error.filename} is missing: run make bench, which makes it first", err=True)
        sys.exit(1)
    click.echo(table)


if __name__ == "__main__":
    main()
