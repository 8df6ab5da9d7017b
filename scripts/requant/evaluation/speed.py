"""How fast a quant is beside its BF16 model: bare in ``llama-bench``, and served by ``llama-server``.

In every round each model runs once, in rotating order, so that a machine that slows down slows all of them alike.
"""

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import httpx2

from requant.documents.evaluation import STREAMS
from requant.documents.records import THREADS, Product, bits_per_weight, write_record
from requant.ground.errors import ToolError
from requant.ground.processors import read_processor
from requant.ground.programs import work_folder
from requant.ground.progress import progress
from requant.pipeline.settings import Speed
from requant.toolchain.instrument import Instrument
from requant.toolchain.server import serve
from requant.toolchain.serving import SERVER, serving_flags

BENCH = "llama-bench"
# The server closes idle connections; one that is about to be closed must not be used again.
ONE_EACH = httpx2.Limits(max_keepalive_connections=0)
REQUEST_SECONDS = 600.0
SPOKEN = ("content", "reasoning_content")
PROMPT = "Count slowly from one to one hundred, one number per line, and do not stop before."


@dataclass
class Runs:
    """What one model did: tokens per second of each round, and the peak memory in bytes."""

    label: str
    model: Path
    product: Mapping[str, Any]
    prompt: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    peak: int = 0


def measure_speed(
    models: Mapping[str, Product], bench: Instrument, server: Instrument, settings: Speed, context: int, record: Path
) -> None:
    """Measure all models of a recipe.

    Args:
        models: by label; the first one is BF16, which the others are compared with.
        bench: ``llama-bench`` on the backend.
        server: ``llama-server`` on the same one.
        settings: how much is read, answered and repeated.
        context: the card's ``--ctx-size``, in tokens.
        record: where the result goes.

    Raises:
        ToolError: when a tool fails, says nothing, or runs on another backend.
    """
    processor = read_processor().name
    runs = [Runs(label, model.file, model.read()) for label, model in models.items()]
    features: list[str] = []
    with progress(settings.rounds * len(runs) + len(runs), "measuring speed", "runs") as bar:
        for number in range(settings.rounds):
            for each in [*runs[number % len(runs) :], *runs[: number % len(runs)]]:
                _bench(each, bench, settings)
                bar.update(1)
        found = []
        for each in runs:
            served, features = _served(each, server, settings, context)
            found.append(_entry(each, runs[0], served))
            bar.update(1)
    protocol = {
        "tools": [BENCH, SERVER],
        "commit": bench.commit,
        "arithmetic": bench.variant,
        "features": features,
        "processor": processor,
        "threads": bench.run.threads,
        "prompt": settings.prompt,
        "generate": settings.generate,
        "rounds": settings.rounds,
        "flags": list(serving_flags(context)),
    }
    write_record(record, {"protocol": protocol, "models": found})


def _bench(runs: Runs, bench: Instrument, settings: Speed) -> None:
    entries = list[dict[str, Any]]()

    def watch(line: str) -> bool:
        if line.startswith("{"):
            entries.append(json.loads(line))
            return False
        # Verbose, so that it names its backend; thousands of lines more are of no use.
        return True

    with work_folder(bench.run.log.parent / "work-bench") as work:
        work.link(runs.model, "model.gguf")
        command = [
            BENCH, "-v", "-m", "model.gguf", "-p", str(settings.prompt), "-n", str(settings.generate), "-r", "1",
            "-o", "jsonl", "-t", THREADS, *bench.offload,
        ]  # fmt: skip
        _, peak = bench.measure(work, command, watch)
    runs.peak = max(runs.peak, peak)
    for entry in entries:
        (runs.decode if entry.get("n_gen") else runs.prompt).append(float(entry.get("avg_ts", 0)))
    if not len(runs.decode) == len(runs.prompt) > 0 or not all([*runs.decode, *runs.prompt]):
        raise ToolError(f"{BENCH} gave no times for {runs.model.name}; its log is {bench.run.log}")


def _served(runs: Runs, llama: Instrument, settings: Speed, context: int) -> tuple[dict[str, Any], list[str]]:
    """Load time, time to the first token, decoding of one stream, and all tokens per second of several."""
    with (
        serve(runs.model, llama, context) as server,
        httpx2.Client(base_url=server.url, timeout=REQUEST_SECONDS, limits=ONE_EACH, trust_env=False) as client,
    ):
        _ask(client, 2)
        first, one = _ask(client, settings.generate)
        streams = {}
        for count in STREAMS:
            begun = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                answers = list(pool.map(lambda _: _ask(client, settings.generate)[1], range(count)))
            tokens = sum(int(answer["predicted_n"]) for answer in answers)
            streams[str(count)] = _shown(tokens / (time.perf_counter() - begun))
        found = {
            "load_seconds": _shown(server.load_seconds),
            "first_token_seconds": _shown(first),
            "decode": _shown(float(one["predicted_per_second"])),
            "streams": streams,
        }
        return found, server.features


def _ask(client: httpx2.Client, tokens: int) -> tuple[float, dict[str, Any]]:
    """Stream one answer of so many tokens; gives the seconds to the first one, and the server's own timings."""
    # No cached prompt, and no early end: every request is the same work.
    body = {
        "messages": [{"role": "user", "content": PROMPT}], "max_tokens": tokens, "stream": True, "ignore_eos": True,
        "cache_prompt": False, "temperature": 0,
    }  # fmt: skip
    begun, first, timings = time.perf_counter(), None, None
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise ToolError(f"llama-server answers {answer.status_code} to a plain question: its log says why")
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line.removeprefix("data: "))
                deltas = [choice.get("delta", {}) for choice in event.get("choices", [])]
                if first is None and any(delta.get(key) for delta in deltas for key in SPOKEN):
                    first = time.perf_counter() - begun
                timings = event.get("timings", timings)
    except (httpx2.HTTPError, ValueError) as error:
        raise ToolError(
            f"llama-server broke off while it answered ({type(error).__name__}): its log says why"
        ) from error
    if timings is None:
        raise ToolError("llama-server sent an answer without timings: its log says why")
    return time.perf_counter() - begun if first is None else first, timings


def _entry(runs: Runs, base: Runs, served: Mapping[str, Any]) -> dict[str, Any]:
    entry = {
        "label": runs.label,
        "file": runs.product["file"],
        "bits_per_weight": bits_per_weight(runs.product["tensors"]),
        "peak_memory": runs.peak,
        "prompt": _rates(runs.prompt),
        "decode": _rates(runs.decode),
        "served": served,
    }
    if runs is not base:
        entry["ratio"] = {key: _ratio(getattr(runs, key), getattr(base, key)) for key in ("prompt", "decode")}
    return entry


def _rates(values: Sequence[float]) -> dict[str, Any]:
    """Tokens per second: mean, standard deviation, and every round."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return {"mean": _shown(mean(values)), "sd": _shown(deviation), "rounds": [_shown(value) for value in values]}


def _ratio(values: Sequence[float], base: Sequence[float]) -> dict[str, str]:
    """How many times as fast, round by round: median, least and greatest."""
    found = [value / other for value, other in zip(values, base, strict=True)]
    return {"median": _shown(median(found)), "min": _shown(min(found)), "max": _shown(max(found))}


def _shown(value: float) -> str:
    """Four digits that say something."""
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"
