"""Measure audits side by side: ours against quantizing again, and against ggufpacker's verification of the same quant.

In every round each contender runs once. What is read over HTTP comes from the loopback Hub of the tests. ``make bench``
prepares and runs it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import click
from report import machine, shown, spread
from run import DEFAULT, upstream

from requant.formats.gguf import read_header
from requant.ground.digests import write_bytes
from requant.quantization.verdict import Verdict
from requant.toolchain.tree import proven_tree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
BIN = Path(sys.executable).parent
TOOLCHAIN = ROOT / "results/toolchains/llama.cpp-0c1e57098bba"
TOOL = TOOLCHAIN / "strict/bin/llama-quantize"
RECIPES = {"Tiny-Qwen3": "config/tiny.yaml", "Large-Qwen3": "bench/large.yaml"}
HEAD = """# Speed of audits

Written by `make bench`.

- Machine: {processor} ({architecture}), {cores} cores, {threads} threads; load before the first run: {load_before}
- Rounds: {rounds}; in each one everything runs once, with the files in the page cache
- Numbers are the median over the rounds and, in brackets, the least and the greatest
- Large-Qwen3 is `bench/large.yaml`: random weights in the shape of a real model
- ggufpacker is given our strict llama-quantize; without the same build it can accept nothing

"""
ACCEPTED = {0: "accepts", 1: "refuses", 2: "refuses", 3: "cannot tell"}


class Model:
    """The files of one recipe that was carried out."""

    def __init__(self, name: str) -> None:
        self.name = name
        results = ROOT / "results" / name
        self.weights, self.release = results / "generated", results / "release"
        self.bf16 = results / "bf16" / "converted" / f"{name}.gguf"
        self.quant = self.release / f"{name}-Q4_K_M.gguf"
        self.imatrix = self.release / "imatrix.gguf"
        self.quantizing = sum(path.stat().st_size for path in (self.bf16, self.imatrix, self.quant))
        self.shards = sorted(self.weights.glob("*.safetensors"))


def run(command: Sequence[str | Path], folder: Path, expected: int | None = 0, **env: str) -> tuple[float, int, str]:
    """Run a command in ``folder``; gives wall seconds, exit code and output."""
    start = perf_counter()
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    seconds = perf_counter() - start
    if expected is not None and done.returncode != expected:
        raise click.ClickException(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return seconds, done.returncode, done.stdout + done.stderr


def reading(paths: Sequence[Path]) -> float:
    """Seconds that reading these files takes."""
    start = perf_counter()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
    return perf_counter() - start


def linked(work: Path, model: Model) -> None:
    """Put the files where ggufpacker and llama-quantize look for them, under their own names."""
    work.mkdir(parents=True, exist_ok=True)
    for path in (model.bf16, model.imatrix, model.quant):
        (work / path.name).unlink(missing_ok=True)
        (work / path.name).symlink_to(path)


def quantizing(work: Path, model: Model, threads: int) -> float:
    """Seconds of llama-quantize, and of reading the weights and the quant once more."""
    command = [TOOL, "--imatrix", "imatrix.gguf", model.bf16.name, "again.gguf", "Q4_K_M", str(threads)]
    seconds = run(command, work)[0] + reading([*model.shards, model.quant])
    (work / "again.gguf").unlink()
    return seconds


def attesting(model: Model) -> list[str | Path]:
    """The command with which ggufpacker proves a quant and writes its statement."""
    sources: list[str | Path] = ["--source", model.bf16.name, "--imatrix", "imatrix.gguf", "--qtype", "Q4_K_M"]
    return [BIN / "ggufpacker", "attest", model.quant.name, *sources, "--llama-quantize", TOOL, "-o", "derivation.json"]


def sampled(work: Path, model: Model, url: str) -> tuple[float, int]:
    """Seconds and bytes of a sampled audit of the release, all from the hub at ``url``."""
    command = [BIN / "requant", "audit", f"hf://bench/{model.name}-GGUF", "--source", f"bench/{model.name}"]
    seconds, _, _ = run([*command, "--json", work / "report.json"], ROOT, HF_ENDPOINT=url, HF_HOME=str(work / "hf"))
    return seconds, json.loads((work / "report.json").read_text())["run"]["bytes_fetched"]


def measure(rounds: int, threads: int, work: Path) -> str:
    """Run all contenders and give the table."""
    from support.hub import LoopbackHub

    tiny, large = map(Model, RECIPES)
    linked(work, large)
    run(attesting(large), work)
    times: dict[str, list[float]] = {}
    fetched: dict[str, int] = {}

    def timed(name: str, contender: Callable[[], float]) -> None:
        times.setdefault(name, []).append(contender())
        click.echo(f"{name}: {times[name][-1]:.2f} s")

    def from_hub(name: str, model: Model, url: str) -> float:
        seconds, fetched[name] = sampled(work, model, url)
        return seconds

    full = [BIN / "requant", "audit", large.release, "--source", large.weights, "--full"]
    verify = [BIN / "ggufpacker", "verify-attestation", "derivation.json", "--llama-quantize", TOOL]
    with LoopbackHub() as hub:
        for model in (tiny, large):
            hub.add_model(f"bench/{model.name}-GGUF", model.release)
            hub.add_model(f"bench/{model.name}", model.weights)
        reading([*large.shards, large.quant, large.bf16])
        for _ in range(rounds):
            timed("quantize", lambda: quantizing(work, large, threads))
            timed("full", lambda: run(full, ROOT)[0])
            timed("ggufpacker", lambda: run(verify, work)[0])
            timed("sample", lambda: from_hub("sample", large, hub.url))
            timed("tiny", lambda: from_hub("tiny", tiny, hub.url))
    return table(large, times, fetched)


def table(large: Model, times: dict[str, list[float]], fetched: dict[str, int]) -> str:
    """The times as Markdown; ratios are taken round by round."""

    def ratio(one: str, other: str) -> str:
        return shown(spread([a / b for a, b in zip(times[one], times[other], strict=True)]))

    source = sum(path.stat().st_size for path in large.shards)
    nbytes = {
        "quantize": source + large.quant.stat().st_size, "full": source + large.quant.stat().st_size,
        "ggufpacker": large.quantizing, "sample": fetched["sample"], "tiny": fetched["tiny"],
    }  # fmt: skip
    meaning = {
        "quantize": f"{large.name}: llama-quantize, then reading weights and quant",
        "full": f"{large.name}: `requant audit --full`",
        "ggufpacker": f"{large.name}: `ggufpacker verify-attestation`",
        "sample": f"{large.name}: `requant audit`, 1,024 rows over the loopback Hub",
        "tiny": "Tiny-Qwen3: `requant audit`, 1,024 rows over the loopback Hub",
    }
    lines = ["| what | s | bytes read |", "|---|---|---|"]
    lines += [f"| {meaning[name]} | {shown(spread(found))} | {nbytes[name]:,} |" for name, found in times.items()]
    less = nbytes["ggufpacker"] / nbytes["sample"]
    return f"""{chr(10).join(lines)}

- The full audit takes {ratio("full", "quantize")} times as long as quantizing and reading.
- ggufpacker's verification takes {ratio("ggufpacker", "sample")} times as long as the sample, and reads {less:.0f}
  times as many bytes.
- A sample of the demo takes {median(times["tiny"]):.1f} s.
"""


def acceptance(work: Path, threads: int) -> str:
    """Who accepts which quant of the demo, as Markdown."""
    from support.quants import contents, program, read_importances, replaced, requantized

    tiny = Model("Tiny-Qwen3")
    linked(work, tiny)
    made = {
        "ours, strict": tiny.quant,
        "ours, one bit of one scale flipped": flipped(tiny.quant, work / "flipped.gguf"),
    }
    names, source = ("llama-imatrix", "llama-quantize"), proven_tree(TOOLCHAIN / "source.json")
    tools = upstream("default", DEFAULT, names, source, threads)
    stock = work / "stock.gguf"
    run([tools / "llama-quantize", "--imatrix", "imatrix.gguf", tiny.bf16.name, stock.name, "Q4_K_M"], work)
    made["stock llama-quantize, x86-64 GCC"] = stock
    for name in ("x86-64 GCC", "ARM64 GCC", "ARM64 clang"):
        quantize = program(name).quantize
        bare = requantized(tiny.quant, tiny.bf16, read_importances(tiny.imatrix), quantize, work / f"bare {name}.gguf")
        tensors = {each: data for each, (_, _, data) in contents(bare).items()}
        made[f"{name}, default"] = replaced(tiny.quant, work / f"{name}.gguf", tensors)
    lines = ["| quant of the demo | ggufpacker attest | requant audit --full |", "|---|---|---|"]
    for name, path in made.items():
        (work / tiny.quant.name).unlink()
        (work / tiny.quant.name).symlink_to(path)
        _, code, _ = run(attesting(tiny), work, None)
        audit = [BIN / "requant", "audit", path, "--source", tiny.weights, "--imatrix", tiny.imatrix, "--full"]
        _, ours, _ = run([*audit, "--json", work / "report.json"], ROOT, None)
        report = json.loads((work / "report.json").read_text())
        verdict = report["answers"]["weights"]["status"]
        how = f" ({report['arithmetic']})" if verdict == Verdict.EXACT else ""
        lines.append(f"| {name} | {ACCEPTED[code]} | {ACCEPTED[ours]}: {verdict}{how} |")
    return "\n".join(lines)


def flipped(quant: Path, out: Path) -> Path:
    """Copy a quant and flip one bit."""
    [tensor] = [tensor for tensor in read_header(quant).tensors if tensor.name == "blk.2.ffn_up.weight"]
    data = bytearray(quant.read_bytes())
    data[tensor.offset + 4] ^= 1
    out.write_bytes(data)
    return out


@click.command()
@click.option("--rounds", default=3, type=click.IntRange(min=1), help="how often each contender runs")
@click.option("--threads", default=len(os.sched_getaffinity(0)), type=click.IntRange(min=1), help="default: all cores")
@click.option("--out", default=ROOT / "docs" / "benchmarks-audit.md", type=click.Path(path_type=Path))
def main(rounds: int, threads: int, out: Path) -> None:
    """Write the tables into OUT; ``make bench`` makes what this needs."""
    snakemake = [BIN / "snakemake", "--cores", str(threads), "--quiet", "--configfile"]
    for recipe in RECIPES.values():
        run([*snakemake, recipe], ROOT)
    work = ROOT / "results" / "bench" / "audits"
    os.chdir(ROOT)
    here = machine()
    accepted = acceptance(work / "accepted", threads)
    text = HEAD.format(**here, rounds=rounds, threads=threads)
    text += f"{measure(rounds, threads, work)}\n## Who accepts what\n\n{accepted}\n"
    write_bytes(out, text.encode())
    click.echo(text)


if __name__ == "__main__":
    main()
