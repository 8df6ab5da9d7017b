"""How a model behaves: suites of questions, put to BF16 and every quant through the same ``llama-server``.

Answers are kept outside of Snakemake's outputs, so that a run that was stopped goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from requant.build import open_built
from requant.digests import digest_file
from requant.errors import FormatError, RecipeError
from requant.evaluation.behaviour import Results, paired, run, summary
from requant.evaluation.endpoint import Endpoint, Settings
from requant.evaluation.server import FLAGS, PARALLEL, serve
from requant.evaluation.suite import Item, drawn, read_suite
from requant.records import file_entry, read_product, read_record, write_record


@dataclass(frozen=True)
class Asking:
    """Build records of ``llama-server`` and the backend, and how to ask.

    ``settings`` is the recipe's ``evaluation.behaviour``; ``context`` the card's ``--ctx-size``, in tokens.
    """

    server: Path
    backend: Path
    settings: Mapping[str, Any]
    context: int
    threads: int
    output: Path


def measure_behaviour(
    label: str, model: Path, model_record: Path, suites: Sequence[Path], asking: Asking, answers: Path, record: Path
) -> None:
    """Ask one model all suites; every answer is kept in ``answers/<suite>.jsonl``.

    Raises:
        FormatError, RecipeError: when a suite cannot be read, or ``answers`` holds those of another run.
        UnsupportedError: when code is to be run and cannot be isolated here.
        ToolError: when the server ends, or runs on another backend.
    """
    product, settings = read_product(model, model_record), asking.settings
    questions = {path: read_suite(path) for path in suites}
    # The name says which bytes answered, so answers of an earlier quant are not taken for this one's.
    said = Settings(f"{product['file']['name']} {product['file']['sha256'][:16]}", settings["thinking"])
    found = []
    with serve(model, asking.server, asking.backend, asking.context, asking.threads, asking.output) as server:
        for path, suite in questions.items():
            items = [_cut(item, settings) for item in drawn(suite, settings.get("items"), settings.get("seed", 0))]
            out, endpoint = answers / f"{path.stem}.jsonl", Endpoint(f"{server.url}/v1")
            try:
                results = run(suite, items, endpoint, said, out, PARALLEL)
            finally:
                endpoint.close()
            found.append(
                {
                    "name": path.stem,
                    "sha256": suite.sha256,
                    "of": len(suite.items),
                    "answers": file_entry(out.name, digest_file(out)),
                    "outcomes": dict(results.outcomes),
                }
            )
    protocol = {
        "commit": open_built(asking.server).document["commit"],
        "arithmetic": open_built(asking.backend).document["variant"],
        "features": server.features,
        "thinking": said.thinking,
        "temperature": said.temperature,
        "seed": said.seed,
        "max_tokens": settings.get("max_tokens"),
        "flags": ["--ctx-size", str(asking.context), *FLAGS],
    }
    write_record(record, {"label": label, "file": product["file"], "protocol": protocol, "suites": found})


def _cut(item: Item, settings: Mapping[str, Any]) -> Item:
    """The item with no more tokens than the recipe allows."""
    limits = [limit for limit in (item.max_tokens, settings.get("max_tokens")) if limit is not None]
    return replace(item, max_tokens=min(limits, default=None))


def collect_behaviour(paths: Sequence[Path]) -> dict[str, Any]:
    """Join the records of BF16, which comes first, and the quants: counts, Wilson's interval, and flips from BF16.

    Raises:
        FormatError: when two were asked in different ways.
    """
    records = [read_record(path) for path in paths]
    base = records[0]
    for path, record in zip(paths, records, strict=True):
        same = [suite["sha256"] for suite in record["suites"]] == [suite["sha256"] for suite in base["suites"]]
        if not same or record["protocol"] != base["protocol"]:
            raise FormatError(f"{path} and {paths[0]} were asked in different ways: remove both and run again")
    suites = []
    for number, suite in enumerate(base["suites"]):
        models = [_model(record, record["suites"][number], suite) for record in records]
        suites.append({"name": suite["name"], "sha256": suite["sha256"], "of": suite["of"], "models": models})
    return {"protocol": base["protocol"], "suites": suites}


def _model(record: Mapping[str, Any], found: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    counts = summary(found["outcomes"])
    entry: dict[str, Any] = {
        "label": record["label"],
        "file": record["file"],
        "items": counts.items,
        "passed": counts.passed,
        "failed": counts.failed,
        "truncated": counts.truncated,
        "errors": counts.errors,
        "score": None if counts.score is None else f"{counts.score:.4f}",
        "outcomes": dict(sorted(found["outcomes"].items())),
        "interval": {"low": f"{counts.interval.low:.4f}", "high": f"{counts.interval.high:.4f}"},
    }
    if found is not base:
        one, other = (Results({"suite": each["sha256"]}, each["outcomes"]) for each in (base, found))
        try:
            pair = paired(one, other)
        except RecipeError:
            return {**entry, "pair": None}
        lost, won = len(pair.only_a), len(pair.only_b)
        entry["pair"] = {"both": pair.both, "lost": lost, "won": won, "p": f"{pair.p:.4f}"}
    return entry
