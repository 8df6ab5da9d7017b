"""What the report shows, worked out from the manifest, the evaluation and the table of times of one release."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from requant.documents.bilingual import Bilingual
from requant.documents.records import bits_per_weight
from requant.evaluation.page.canvas import stream_names
from requant.evaluation.page.figures import draw_figures
from requant.evaluation.page.words import word
from requant.release.summary import Made, Status, made, suite_statuses
from requant.toolchain.perplexity import QUANTILES

Document = Mapping[str, Any]
"""A part of ``manifest.json`` or ``evaluation.json``, in the form that their schemas give it."""
DASH = "–"
MATRIX = 100
"""Questions of a suite that are shown one by one; of more, the counts say enough."""
MARKS = {"passed": "✓", "failed": "✗", "truncated": "…", "error": "!", "none": DASH}


@dataclass(frozen=True)
class Model:
    """A model at a glance, with a dash or None for what was not measured of it; sizes in bytes."""

    label: str
    size: int
    bits_per_weight: str
    ratio: str
    divergence: str
    same_top: str
    decode: str
    speedup: str
    peak_memory: int | None


@dataclass(frozen=True)
class Evaluated:
    """What can be measured, and whether it was."""

    name: Bilingual
    status: Status


@dataclass(frozen=True)
class Served:
    """A model through ``llama-server``: tokens per second of all ``streams`` together, and of one while it answers."""

    label: str
    streams: Sequence[str]
    load_seconds: str
    first_token_seconds: str
    decode: str


@dataclass(frozen=True)
class Answer:
    """What became of one question: ``passed``, ``failed``, ``truncated``, ``error`` or ``none``, and its mark."""

    outcome: str
    mark: str


@dataclass(frozen=True)
class Matrix:
    """A suite question by question: the answers of each of ``models``, by the question's id."""

    suite: str
    models: Sequence[str]
    answers: Mapping[str, Sequence[Answer]]


@dataclass(frozen=True)
class Step:
    """A step of the run: its seconds, and its peak memory in MB or ``NA``."""

    name: str
    seconds: str
    peak_memory: str


@dataclass(frozen=True)
class Page:
    """The whole report.

    ``fidelity``, ``speed`` and ``behaviour`` stand as they do in the evaluation, None where not measured; ``tensors``
    are its quants by the name of their heat map, ``quantiles`` its names of them by what heads their column. ``rates``
    are the tokens per second with which each model answers.
    """

    made: Made
    summary: Bilingual
    bf16: Document
    models: Sequence[Model]
    evaluations: Sequence[Evaluated]
    fidelity: Document | None
    speed: Document | None
    behaviour: Document | None
    matrices: Sequence[Matrix]
    tensors: Mapping[str, Document]
    importances: Mapping[str, str]
    rates: Mapping[str, str]
    quantiles: Mapping[str, str]
    streams: Sequence[Bilingual]
    served: Sequence[Served]
    figures: Mapping[str, str]
    files: Sequence[Document]
    times: Sequence[Step] | None


def build_page(
    manifest: Document, evaluation: Document, files: Sequence[Document], times: Sequence[Step] | None
) -> Page:
    """The page about a release.

    Raises:
        FormatError: when a figure has no room for what was measured.
    """
    speed, behaviour, tensors = (evaluation[part] for part in ("speed", "behaviour", "tensors"))
    release = made(manifest)
    return Page(
        made=release,
        summary=Bilingual(**release.card["summary"]),
        bf16=manifest["model"],
        models=list(_models(manifest, evaluation)),
        evaluations=_evaluations(evaluation),
        fidelity=evaluation["fidelity"],
        speed=speed,
        behaviour=behaviour,
        matrices=[_matrix(suite) for suite in behaviour["suites"] if _is_short(suite)] if behaviour else [],
        tensors={f"error-{number}": quant for number, quant in enumerate(tensors)},
        importances={
            entry["name"]: entry["importance"] for quant in tensors for entry in quant["tensors"] if entry["importance"]
        },
        rates={model["label"]: model["decode"]["mean"] for model in speed["models"]} if speed else {},
        quantiles={f"{name[1:]} %": name for name in QUANTILES.values() if name.startswith("q")},
        streams=list(stream_names().values()),
        served=[_served(model) for model in speed["models"]] if speed else [],
        figures=draw_figures(evaluation),
        files=files,
        times=times,
    )


def _models(manifest: Document, evaluation: Document) -> Iterator[Model]:
    """BF16 and each quant."""
    fidelity, speed = evaluation["fidelity"], evaluation["speed"]
    divergences = (
        {quant["type"]: quant["divergence"] for quant in fidelity["quants"] if quant["imatrix"]} if fidelity else {}
    )
    speeds = {model["label"]: model for model in speed["models"]} if speed else {}
    for label, model in [("BF16", manifest["model"]), *((quant["type"], quant) for quant in manifest["quants"])]:
        apart, rate = divergences.get(label), speeds.get(label)
        yield Model(
            label=label,
            size=model["file"]["size"],
            bits_per_weight=bits_per_weight(model["tensors"]),
            ratio=apart["ratio"]["value"] if apart else DASH,
            divergence=apart["mean"]["value"] if apart else DASH,
            same_top=apart["same_top"]["value"] if apart else DASH,
            decode=rate["decode"]["mean"] if rate else DASH,
            speedup=rate["ratio"]["decode"]["median"] if rate and "ratio" in rate else DASH,
            peak_memory=rate["peak_memory"] if rate else None,
        )


def _served(model: Document) -> Served:
    served = model["served"]
    streams = [served["streams"][count] for count in stream_names()]
    return Served(model["label"], streams, served["load_seconds"], served["first_token_seconds"], served["decode"])


def _evaluations(evaluation: Document) -> list[Evaluated]:
    fidelity, tensors, speed = (Status(bool(evaluation[part])) for part in ("fidelity", "tensors", "speed"))
    suites = [
        Evaluated(word("glance.suite").format(name=name), status)
        for name, status in suite_statuses(evaluation["behaviour"]).items()
    ]
    return [
        Evaluated(word("glance.perplexity"), fidelity),
        Evaluated(word("glance.divergence"), fidelity),
        Evaluated(word("glance.tensors"), tensors),
        Evaluated(word("glance.speed"), speed),
        *(suites or [Evaluated(word("glance.answers"), Status(False))]),
    ]


def _is_short(suite: Document) -> bool:
    return len(suite["models"][0]["outcomes"]) <= MATRIX


def _matrix(suite: Document) -> Matrix:
    models = suite["models"]
    return Matrix(
        suite=suite["name"],
        models=[model["label"] for model in models],
        answers={
            question: [
                Answer(outcome, MARKS[outcome])
                for outcome in (each["outcomes"].get(question, "none") for each in models)
            ]
            for question in models[0]["outcomes"]
        },
    )
