"""evaluation.json: everything that was measured of a release, beside the release; its form, and whose it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from requant.documents.consistency import Disagreement
from requant.documents.file_names import EVALUATION, MANIFEST
from requant.documents.manifest import Manifest
from requant.documents.schemas import fault
from requant.ground.canonical import canonical, parse
from requant.ground.digests import read_small
from requant.ground.errors import FormatError
from requant.ground.text import printable, shown

SCHEMA = "requant/evaluation/v1"
STREAMS = (1, 4, 16)
"""Questions at a time, for which the speed of a served model is told."""

LONGEST = 1 << 23
"""Bytes: room for the tensors of a hundred quants."""


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read such a file from outside: at most ``LONGEST`` bytes, canonical, and in its form.

    Raises:
        FormatError: naming the file or the key.
    """
    data = read_small(path, LONGEST)
    document = parse(data, path.name)
    require_form(document)
    if canonical(document) != data:
        raise FormatError(f"{path.name} is not canonical JSON: get the file again")
    return dict(document)


def require_form(document: Any) -> None:
    """Check the document against its schema.

    Raises:
        FormatError: one sentence naming the key.
    """
    if wrong := fault(document, "evaluation", EVALUATION):
        raise FormatError(printable(wrong))


def foreign_files(evaluation: Mapping[str, Any], manifest: Manifest) -> Iterator[Disagreement]:
    """Where an evaluation is about other files than those of a manifest."""
    bf16, quants = manifest.bf16.file.entry, {quant.type: quant.file.entry for quant in manifest.quants}
    fidelity, speed = evaluation["fidelity"], evaluation["speed"]
    claims = [("tensors", entry["type"], entry["file"]) for entry in evaluation["tensors"]]
    if fidelity:
        yield from _differs("fidelity.baseline", bf16, fidelity["baseline"]["file"])
        claims += [("fidelity", entry["type"], entry["file"]) for entry in fidelity["quants"] if entry["imatrix"]]
    if speed:
        claims += [("speed", entry["label"], entry["file"]) for entry in speed["models"][1:]]
        yield from _differs("speed.models.0", bf16, speed["models"][0]["file"])
    for suite in (evaluation["behaviour"] or {"suites": []})["suites"]:
        where = f"behaviour.{suite['name']}"
        claims += [(where, entry["label"], entry["file"]) for entry in suite["models"][1:]]
        yield from _differs(f"{where}.models.0", bf16, suite["models"][0]["file"])
    for where, kind, file in claims:
        yield from _differs(f"{where} {kind}", quants.get(kind), file)


def _differs(where: str, expected: object, actual: object) -> Iterator[Disagreement]:
    if expected != actual:
        yield Disagreement(f"{EVALUATION}: {printable(where)}", f"{shown(expected)}, as in {MANIFEST}", shown(actual))
