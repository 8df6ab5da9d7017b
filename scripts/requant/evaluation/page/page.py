"""The report of a release for people: one HTML page in English and Chinese that loads nothing.

Rendered by ``workflow/templates/report.html.j2`` from the manifest, the evaluation and the table of times. All text in
them is untrusted: it is put on one line, without characters that do not print, and escaped for HTML.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from requant.documents.evaluation import foreign_files, read_evaluation
from requant.documents.manifest import read_manifest
from requant.documents.records import bits_per_weight, file_entry
from requant.evaluation.page.figures import draw_figures
from requant.ground.digests import digest_file, read_small, write_bytes
from requant.ground.errors import FormatError
from requant.ground.text import sized
from requant.pipeline.run_times import COLUMNS
from requant.release.summary import made
from requant.release.templates import TEMPLATES

QUANTILES = ["0.1 %", "1 %", "5 %", "10 %", "50 %", "90 %", "95 %", "99 %", "99.9 %"]
LONGEST_TABLE = 1 << 20
MATRIX = 100
"""Questions of a suite that are shown one by one; of more, the counts say enough."""
MARKS = {"passed": "✓", "failed": "✗", "truncated": "…", "error": "!", "none": "–"}


def write_report(manifest: Path, evaluation: Path, times: Path | None, out: Path) -> None:
    """Write the report of the release that ``manifest`` describes and ``evaluation`` measures.

    ``times`` is the ``run.tsv`` of the run that made it.

    Raises:
        FormatError: when a file is not in its form, or the evaluation is about other files than the manifest's.
    """
    described, measured = read_manifest(manifest), read_evaluation(evaluation)
    for found in foreign_files(measured, described):
        raise FormatError(f"{found.where} is {found.actual}, expected {found.expected}: measure this release")
    files = [file.entry for file in (*(quant.file for quant in described.quants), described.imatrix.file)]
    files += [file_entry(path.name, digest_file(path)) for path in (manifest, evaluation)]
    release, measured = _clean(described.document), _clean(measured)
    context = {
        **vars(made(release)),
        **_measured(measured),
        "model": release["model"],
        "models": list(_models(release, measured)),
        "files": files,
        "times": None if times is None else _clean(read_times(times)),
    }
    write_bytes(out, _environment().get_template("report.html.j2").render(context).encode())


def read_times(path: Path) -> list[list[str]]:
    """The rows of ``run.tsv``: a step, its seconds, its peak memory in MB or ``NA``.

    Raises:
        FormatError: when the table has other columns.
    """
    try:
        head, *rows = (line.split("\t") for line in read_small(path, LONGEST_TABLE).decode().splitlines())
        if tuple(head) == COLUMNS and all(len(row) == len(COLUMNS) for row in rows):
            return rows
    except ValueError:  # nothing, or no UTF-8
        pass
    raise FormatError(f"{path} is no table of {', '.join(COLUMNS)}: run the workflow again")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"size": sized, "round_size": _round_size, "thousands": "{:,}".format}
    return environment


def _round_size(size: int) -> str:
    """``2.50 GB``."""
    return sized(size).partition(" (")[0]


def _measured(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the template sees of an evaluation: figures, and what stands in the tables behind them."""
    fidelity, speed, tensors = (evaluation[part] for part in ("fidelity", "speed", "tensors"))
    importances: dict[str, str] = {}
    for quant in tensors:
        importances |= {entry["name"]: entry["importance"] for entry in quant["tensors"] if entry["importance"]}
    return {
        "fidelity": fidelity,
        "speed": speed,
        "behaviour": evaluation["behaviour"],
        "MATRIX": MATRIX,
        "MARKS": MARKS,
        "tensors": [{**quant, "number": number} for number, quant in enumerate(tensors)],
        "importances": list(importances.items()),
        "rates": {model["label"]: model["decode"]["mean"] for model in speed["models"]} if speed else {},
        "quantiles": QUANTILES,
        "figures": draw_figures(evaluation),
        "status": _status(evaluation),
    }


def _status(evaluation: Mapping[str, Any]) -> list[tuple[str, str, bool, str]]:
    """Every evaluation there is, in English and Chinese, whether it was done, and how much if not all, or why not.

    Nothing is said of why where the recipe did not ask.
    """
    fidelity, tensors, speed = (bool(evaluation[part]) for part in ("fidelity", "tensors", "speed"))
    behaviour = evaluation["behaviour"] or {"suites": [], "not_run": []}
    answers = [
        (f"Answers: {name}", f"答题：{name}", done, detail)
        for name, done, detail in (
            *((suite["name"], True, _part(suite)) for suite in behaviour["suites"]),
            *((suite["name"], False, suite["reason"]) for suite in behaviour["not_run"]),
        )
    ]
    return [
        ("Perplexity", "困惑度", fidelity, ""),
        ("KL divergence from BF16", "与 BF16 的 KL 散度", fidelity, ""),
        ("Errors of the tensors", "张量误差", tensors, ""),
        ("Speed", "速度", speed, ""),
        *(answers or [("Answers", "答题", False, "")]),
    ]


def _part(suite: Mapping[str, Any]) -> str:
    """How many of a suite's questions every model answered, empty if all of them."""
    answered = min(model["items"] - model["errors"] for model in suite["models"])
    return "" if answered == suite["of"] else f"{answered}/{suite['of']}"


def _models(manifest: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """BF16 and each quant, with what was measured of it or ``None``."""
    fidelity, speed = evaluation["fidelity"], evaluation["speed"]
    apart = {quant["type"]: quant["divergence"] for quant in fidelity["quants"] if quant["imatrix"]} if fidelity else {}
    rates = {model["label"]: {"ratio": None, **model} for model in speed["models"]} if speed else {}
    for label, model in [("BF16", manifest["model"]), *((quant["type"], quant) for quant in manifest["quants"])]:
        yield {
            "label": label,
            "size": model["file"]["size"],
            "bits_per_weight": bits_per_weight(model["tensors"]),
            "divergence": apart.get(label),
            "speed": rates.get(label),
        }


def _clean(value: Any) -> Any:
    """The document with each text on one line and ``�`` for what does not print, such as marks that turn it around."""
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() else "�" for letter in " ".join(value.split()))
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, Sequence) else value
