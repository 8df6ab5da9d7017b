"""``evaluation.json``: everything that was measured of a release, beside the release.

It is no part of the release's identity: other machines measure other numbers. It names the files that it is about by
digest, so it cannot be moved to another release unnoticed.
"""

from collections.abc import Sequence
from pathlib import Path

from requant.documents.evaluation import SCHEMA, require_form
from requant.documents.records import read_record
from requant.evaluation.behaviour.models import collect_behaviour
from requant.evaluation.fidelity.predictions import collect_fidelity
from requant.ground.canonical import canonical
from requant.ground.digests import write_bytes


def write_evaluation(
    fidelity: Sequence[Path], tensors: Sequence[Path], speed: Sequence[Path], behaviour: Sequence[Path], out: Path
) -> None:
    """Join the records of one recipe; none where a part was not measured.

    Args:
        fidelity: baseline, then quants.
        tensors: of each quant.
        speed: the one record.
        behaviour: BF16, then quants.
        out: where ``evaluation.json`` goes.

    Raises:
        FormatError: when records do not belong together.
    """
    document = {
        "schema": SCHEMA,
        "fidelity": collect_fidelity(fidelity[0], fidelity[1:]) if fidelity else None,
        "speed": read_record(speed[0]) if speed else None,
        "tensors": [read_record(path) for path in tensors],
        "behaviour": collect_behaviour(behaviour) if behaviour else None,
    }
    require_form(document)
    write_bytes(out, canonical(document))
