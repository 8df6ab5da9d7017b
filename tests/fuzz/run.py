"""Coverage-guided fuzzing of every target, each in a process of its own: ``make fuzz``, for hours ``make fuzz RUNS=…``."""

import argparse
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from random import Random

import atheris

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

with atheris.instrument_imports(include=["requant"]) if "--target" in sys.argv else nullcontext():
    from fuzz.mutations import mutated
    from fuzz.seeds import seeds
    from fuzz.targets import TARGETS

MEMORY, SECONDS = 512, 10
"""Mebibytes of the whole process, and seconds of one input: more is a finding."""
LONGEST = 1 << 14
# Parts of a hundred: what checks a whole manifest takes a hundred times as long as what reads a header.
SHARES = {"tokenizer": 3, "manifest": 1, "statement": 1, "attestation": 6, "sums": 4}
SHARE = (100 - sum(SHARES.values())) / (len(TARGETS) - len(SHARES))


def fuzz(name: str, options: list[str]) -> None:
    """Run one target in this process until libFuzzer ends it."""

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        return mutated(data, random)[:longest] if random.random() < 0.5 else atheris.Mutate(data, longest)

    atheris.Setup([name, *options], TARGETS[name], custom_mutator=mutate)
    atheris.Fuzz()


def run(name: str, runs: int) -> bool:
    """Run one target in a new process and say how that went; whether nothing was found."""
    corpus, findings = BUILD / "corpus" / name, BUILD / "findings" / name
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-runs={runs}", f"-rss_limit_mb={MEMORY}", f"-timeout={SECONDS}", f"-max_len={LONGEST}"]
    options += [f"-artifact_prefix={findings}/", "-print_final_stats=1", str(corpus)]
    # What was found once is tried again, and is a seed when it is mended.
    command = [sys.executable, str(Path(__file__)), "--target", name, *options, str(findings)]
    log, start = BUILD / f"{name}.log", time.monotonic()
    with log.open("wb") as out:
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    seconds, text = time.monotonic() - start, log.read_text(errors="replace")
    executed, covered = (re.findall(form, text) for form in (r"number_of_executed_units: *(\d+)", r"cov: (\d+)"))
    done = int(executed[-1]) if executed else 0
    good = code == 0 and done >= runs
    print(
        f"{name:12} {done:>9,} executions  {done / seconds:>6,.0f}/s  {covered[-1] if covered else '?':>5} edges  "
        f"{'no crash' if good else f'1 crash: see {log.relative_to(ROOT)} and {findings.relative_to(ROOT)}'}",
        flush=True,
    )
    return good


def main() -> int:
    """Run all targets, or some; 1 if there is a finding or a target did not run to its end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="executions of all targets together")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=[*TARGETS])
    parser.add_argument("--target", choices=TARGETS, help=argparse.SUPPRESS)
    known, options = parser.parse_known_args()
    if known.target:
        fuzz(known.target, options)
    good = [run(name, -int(-known.runs * SHARES.get(name, SHARE) // 100)) for name in known.only]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
