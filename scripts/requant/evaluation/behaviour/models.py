"""How a model behaves: suites of questions, put to BF16 and every quant through the same ``llama-server``.

Answers are kept outside of Snakemake's outputs, so that a run that was stopped goes on where it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from requant.difference.results import paired
from requant.documents.records import Product, file_entry, read_record, write_record
from requant.documents.results import Outcome, Results
from requant.evaluation.behaviour.asking import run, summary
from requant.evaluation.behaviour.endpoint import Endpoint, Settings
from requant.evaluation.behaviour.harness import Harness, ask_knowledge
from requant.evaluation.behaviour.knowledge import Knowledge, read_knowledge
from requant.evaluation.behaviour.suite import Item, Suite, drawn, read_suite
from requant.ground.canonical import canonical
from requant.ground.digests import digest_bytes, digest_file
from requant.ground.errors import StaleError
from requant.pipeline.settings import Behaviour
from requant.toolchain.instrument import Instrument
from requant.toolchain.server import serve
from requant.toolchain.serving import PARALLEL, serving_flags

T = TypeVar("T")
ROWS = ".json"
"""What tells the rows of a harness's set from a suite, which is JSONL."""


@dataclass(frozen=True)
class Asking:
    """``llama-server`` on its backend, and how to ask.

    ``context`` is the card's ``--ctx-size``, in tokens; ``harness`` the record of EvalScope's environment, where a set
    needs it; ``answers`` the folder that keeps every answer.
    """

    server: Instrument
    harness: Path | None
    settings: Behaviour
    context: int
    answers: Path


def measure_behaviour(label: str, model: Product, suites: Sequence[Path], asking: Asking, record: Path) -> None:
    """Ask one model all suites; every answer is kept in ``asking.answers``.

    Raises:
        FormatError: when a suite cannot be read.
        UnsupportedError: when code is to be run and cannot be isolated here.
        SourceError: when the server answers nothing any more; what it did answer is kept.
        ToolError: when the server ends, or runs on another backend, or the harness fails.
    """
    product, settings = model.read(), asking.settings
    sets = {path.stem: read_knowledge(path) if path.suffix == ROWS else read_suite(path) for path in suites}
    # The name says which bytes answered.
    how = Settings(f"{product['file']['name']} {product['file']['sha256'][:16]}", settings.thinking)
    found = []
    with serve(model.file, asking.server, asking.context) as server:
        for name, questions in sets.items():
            if isinstance(questions, Suite):
                entry = _ask_suite(name, questions, f"{server.url}/v1", how, asking)
            elif questions.not_run:
                entry = {"name": name, "not_run": questions.not_run}
            else:
                entry = _ask_knowledge(name, questions, f"{server.url}/v1", how, asking)
            found.append(entry)
    protocol = {
        "commit": asking.server.commit,
        "arithmetic": asking.server.variant,
        "features": server.features,
        "thinking": how.thinking,
        "temperature": how.temperature,
        "seed": how.seed,
        "max_tokens": settings.max_tokens,
        "flags": list(serving_flags(asking.context)),
    }
    write_record(record, {"label": label, "file": product["file"], "protocol": protocol, "suites": found})


def _ask_suite(name: str, suite: Suite, url: str, how: Settings, asking: Asking) -> dict[str, Any]:
    items = [_cut(item, asking.settings.max_tokens) for item in _drawn(suite.items, asking.settings)]
    # More items of the same suite go on with the same file; other settings do not.
    out = asking.answers / f"{name}-{_key(suite.sha256, how, asking.settings.max_tokens)}.jsonl"
    endpoint = Endpoint(url)
    try:
        results = run(suite, items, endpoint, how, out, PARALLEL)
    finally:
        endpoint.close()
    return _entry(name, suite.sha256, None, len(suite.items), out, results)


def _ask_knowledge(name: str, knowledge: Knowledge, url: str, how: Settings, asking: Asking) -> dict[str, Any]:
    assert asking.harness is not None
    harness = Harness(asking.harness, asking.server.run.log)
    rows, max_tokens = _drawn([*enumerate(knowledge.rows)], asking.settings), asking.settings.max_tokens
    key = _key(knowledge.sha256, how, max_tokens, [place for place, _ in rows], read_record(harness.record))
    out = asking.answers / f"{name}-{key}.jsonl"
    endpoint = Endpoint(url)
    try:
        # EvalScope would put every question of thousands to a server that fails, five times each.
        endpoint.require_answering(how)
        results = ask_knowledge(knowledge, rows, url, how, max_tokens, harness, out)
        if Outcome.ERROR in results.outcomes.values():
            endpoint.require_answering(how)
    finally:
        endpoint.close()
    return _entry(name, knowledge.sha256, harness.name, len(knowledge.rows), out, results)


def _drawn(items: Sequence[T], settings: Behaviour) -> tuple[T, ...]:
    return drawn(items, min(len(items), settings.items or len(items)), settings.seed or 0)


def _key(suite: str, how: Settings, *more: object) -> str:
    """What an answer depends on, so that answers of an earlier quant or setting are not taken for these."""
    return digest_bytes(canonical([suite, asdict(how), *more])).sha256[:12]


def _entry(name: str, sha256: str, harness: str | None, of: int, out: Path, results: Results) -> dict[str, Any]:
    answers = file_entry(out.name, digest_file(out))
    outcomes = dict(results.outcomes)
    return {"name": name, "sha256": sha256, "harness": harness, "of": of, "answers": answers, "outcomes": outcomes}


def _cut(item: Item, most: int | None) -> Item:
    """The item with no more tokens than the recipe allows."""
    limits = [limit for limit in (item.max_tokens, most) if limit is not None]
    return replace(item, max_tokens=min(limits, default=None))


def collect_behaviour(paths: Sequence[Path]) -> dict[str, Any]:
    """Join the records of BF16, which comes first, and the quants: counts, Wilson's interval, and flips from BF16.

    Raises:
        StaleError: when two were asked in different ways.
    """
    records = [read_record(path) for path in paths]
    base = records[0]
    for path, record in zip(paths, records, strict=True):
        if [_identity(suite) for suite in record["suites"]] != [_identity(suite) for suite in base["suites"]] or (
            record["protocol"] != base["protocol"]
        ):
            raise StaleError(f"{path} and {paths[0]} were asked in different ways: remove both and run again")
    suites = []
    for number, suite in enumerate(base["suites"]):
        if "not_run" not in suite:
            models = [_model(record, record["suites"][number], suite) for record in records]
            suites.append({key: suite[key] for key in ("name", "sha256", "harness", "of")} | {"models": models})
    not_run = [{"name": suite["name"], "reason": suite["not_run"]} for suite in base["suites"] if "not_run" in suite]
    return {"protocol": base["protocol"], "suites": suites, "not_run": not_run}


def _identity(suite: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(suite.get(key) for key in ("name", "sha256", "harness", "not_run"))


def _p_value(p: float) -> str:
    """Four decimals, or digits, of what these would call zero."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.4g}"


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
        pair = paired(*(Results({"suite": each["sha256"]}, each["outcomes"]) for each in (base, found)))
        lost, won = len(pair.only_a), len(pair.only_b)
        compared = {"both": pair.both, "lost": lost, "won": won, "p": _p_value(pair.p)}
        entry["pair"] = compared if pair.both else None
    return entry
