"""What bench/run.py reads from the machine and the logs, ratios of the times, and the table made from them."""

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from requant.documents.records import THREADS
from requant.ground.processors import read_processor

TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "asimd", "bf16", "i8mm", "sve2")
STAMP = re.compile(r"^(\d+)\.(\d\d)\.(\d{3})\.(\d{3}) ")
FIRST_PASS = re.compile(r"([\d.]+) seconds per pass")
QUANTIZE_TIME = re.compile(r"quantize time = *([\d.]+) ms")
KEYS = ("process", "computing")
MEANING = {
    "portable": "the backend that gives the same bytes on every machine",
    "native": "the backend built for this processor",
    "avx2": "upstream's backend with AVX2, FMA, F16C and BMI2, under the same tools",
    "lanes": "the tools that the workflow uses, lanes ahead of their searches, one row in a hundred done twice",
    "lanes, AVX2": "the same without AVX-512",
    "limit": "the same tools with searches that write zeros: what reading, widening and writing alone take",
    "strict": "the same tools alone, without contraction",
    "default": "llama.cpp built its own way, with CMake's defaults, tools included",
}


def machine() -> dict[str, Any]:
    """What the times depend on."""
    processor = read_processor()
    flags = [flag for flag in TELLING_FLAGS if flag in processor.flags]
    known = {"processor": processor.name, "architecture": platform.machine(), "flags": flags}
    return {**known, "cores": len(os.sched_getaffinity(0)), "load_before": round(os.getloadavg()[0], 2)}


def tool_times(lines: Sequence[str]) -> dict[str, float]:
    """What the tool's log says of its own times, in seconds."""
    times = {}
    start, end = (clock(lines, phrase) for phrase in ("computing over", "stored collected data"))
    if start is not None and end is not None:
        times["computing"] = round(end - start, 3)
    for key, pattern, unit in (("first_pass", FIRST_PASS, 1.0), ("computing", QUANTIZE_TIME, 1e-3)):
        if found := [match[1] for match in map(pattern.search, lines) if match]:
            times[key] = round(float(found[-1]) * unit, 3)
    return times


def clock(lines: Sequence[str], phrase: str) -> float | None:
    """The time at the start of the last line with ``phrase``: minutes, seconds, milli- and microseconds."""
    for line in reversed(lines):
        if phrase in line and (match := STAMP.match(line)):
            return 60 * int(match[1]) + int(match[2]) + int(match[3]) / 1e3 + int(match[4]) / 1e6
    return None


def add_ratios(document: dict[str, Any]) -> dict[str, Any]:
    """Add to each measurement how fast its subject is compared with the other contenders."""
    for measured in document["measured"]:
        table, subject = measured["contenders"], measured["subject"]
        measured["ratios"] = {
            other: {
                key: spread([b / a for a, b in zip(table[subject][key], table[other][key], strict=True)])
                for key in KEYS
                if key in table[subject] and key in table[other]
            }
            for other in table
            if other != subject
        }
    return document


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of some values."""
    found = {"median": median(values), "min": min(values), "max": max(values)}
    return {key: round(value, 4) for key, value in found.items()}


def render(document: Mapping[str, Any]) -> str:
    """The document as Markdown."""
    here = document["machine"]
    flags = ", ".join(here["flags"]) or "none of those that matter here"
    left_out = "".join(f"- Left out: {name}, because {reason}\n" for name, reason in document["left_out"].items())
    head = f"""# Speed

Written by `make bench` from [benchmarks.json](benchmarks.json), which holds every single time and the digest of every
product.

- Machine: {here["processor"]} ({here["architecture"]}), {here["cores"]} cores; flags: {flags}; load before the first
  run: {here["load_before"]}
- llama.cpp {document["commit"][:12]}, {document["compiler"]}, {document["threads"]} threads
- Rounds: {document["rounds"]}; in each one every build runs once, in rotating order, with the model in the page cache
- Computing alone is what the tool's own clock says: without loading the model and reading the text
- Numbers are the median over the rounds and, in brackets, the least and the greatest. A ratio is the time of the other
  build divided by that of ours in the same round: above 1, ours is faster.
{left_out}"""
    lines = [*head.splitlines(), ""]
    types = [measured for measured in document["measured"] if measured["model"] == "Wide-Qwen3" and "type" in measured]
    for measured in document["measured"]:
        if measured not in types:
            lines += [*section(measured, document["threads"]), ""]
    lines += [*types_section(types), ""] if types else []
    seen = [name for name in MEANING if any(name in measured["contenders"] for measured in document["measured"])]
    lines += ["## The builds", "", "| build | what it is |", "|---|---|"]
    lines += [f"| {name} | {MEANING[name]} |" for name in seen]
    return "\n".join(lines) + "\n"


def section(measured: Mapping[str, Any], threads: int) -> Iterator[str]:
    """One measurement: heading, command, table, and whose products are equal."""
    subject, chunks = measured["subject"], measured.get("chunks")
    verb = f"Calibration, {chunks} chunks" if chunks else "Quantization"
    yield f"## {verb}: {measured['model']}, {measured['parameters'] / 1e6:.0f} million parameters"
    yield ""
    yield f"`{' '.join(measured['command']).replace(THREADS, str(threads))}`"
    yield ""
    unit = "s per chunk" if chunks else "s"
    yield f"| build | whole process, s | computing alone, {unit} | {subject} is × as fast, whole | computing alone |"
    yield "|---|---|---|---|---|"
    table = {name: measured["contenders"][name] for name in MEANING if name in measured["contenders"]}
    for name, entry in table.items():
        times = [
            shown(spread([value / per for value in entry[key]])) if key in entry else "not logged"
            for key, per in zip(KEYS, (1, chunks or 1), strict=True)
        ]
        ratios = measured["ratios"].get(name, {})
        compared = ["" if name == subject else shown(ratios[key]) if key in ratios else "" for key in KEYS]
        yield f"| {' | '.join([name, *times, *compared])} |"
    digest = table[subject]["sha256"]
    same = [name for name, entry in table.items() if name != subject and entry["sha256"] == digest]
    yield ""
    yield f"The product of {subject} was the same in every round, SHA-256 `{digest[0]}`."
    yield f"The same bytes came from: {', '.join(same) or 'no other build'}."


def types_section(types: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Quantization of one model to many types: one line each."""
    yield f"## Quantization to other types: {types[0]['model']}, {types[0]['parameters'] / 1e6:.0f} million parameters"
    yield ""
    yield "| type | lanes, s | default, s | lanes are × as fast | same bytes | SHA-256 |"
    yield "|---|---|---|---|---|---|"
    for measured in types:
        table = measured["contenders"]
        times = [shown(spread(table[name]["process"])) for name in ("lanes", "default")]
        same = "yes" if table["lanes"]["sha256"] == table["default"]["sha256"] else "no"
        ratio = shown(measured["ratios"]["default"]["process"])
        yield f"| {' | '.join([measured['type'], *times, ratio, same, table['lanes']['sha256'][0][:16]])} |"


def shown(values: Mapping[str, float]) -> str:
    """A spread as text."""
    return f"{values['median']:.2f} [{values['min']:.2f}, {values['max']:.2f}]"
