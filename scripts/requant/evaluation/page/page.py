"""The report of a release for people: one HTML page in English and Chinese that loads nothing.

Rendered by ``workflow/templates/report.html.j2`` from the manifest, the evaluation and the table of times. All text in
them is untrusted: it is put on one line, without characters that do not print, and escaped for HTML.
"""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment

from requant.documents.evaluation import foreign_files, read_evaluation
from requant.documents.manifest import read_manifest
from requant.documents.records import file_entry
from requant.documents.templates import environment
from requant.evaluation.page.model import Step, build_page
from requant.evaluation.page.words import page_words
from requant.ground.digests import digest_file, read_small, write_bytes
from requant.ground.errors import FormatError
from requant.ground.text import on_one_line, plain, sized
from requant.pipeline.run_times import COLUMNS

LONGEST_TABLE = 1 << 20


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
    steps = None if times is None else [Step(*_clean(row)) for row in read_times(times)]
    page = build_page(_clean(described.document), _clean(measured), files, steps)
    write_bytes(out, _environment().get_template("report.html.j2").render(page=page, made=page.made).encode())


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
    found = environment(html=True)
    found.filters["round_size"] = _round_size
    found.globals["words"] = page_words()
    return found


def _round_size(size: int) -> str:
    """``2.50 GB``."""
    return sized(size).partition(" (")[0]


def _clean(value: Any) -> Any:
    """The document with each text on one line, without what does not print."""
    return plain(on_one_line(value))
