"""Experts that no token of the calibration reached: nobody knows how important their columns are.

llama-quantize then takes all their columns for equally important, as it does without an importance matrix.
"""

import logging
from typing import Any

from requant.formats.imatrix import Imatrix
from requant.ground.errors import FormatError
from requant.ground.text import counted, listed
from requant.pipeline.settings import Calibration

logger = logging.getLogger(__name__)
REFUSE = "refuse"


def report_unseen(imatrix: Imatrix, settings: Calibration) -> list[dict[str, Any]]:
    """Warn of experts without a token, and list their weights: name, number of experts, and how many are unseen.

    Raises:
        FormatError: where there are some, and the recipe refuses them.
    """
    found = [
        {"name": name, "experts": len(imatrix.entries[name].counts), "unseen": unseen}
        for name, unseen in sorted(imatrix.unseen.items())
    ]
    if found:
        weights = listed([f"{each['name']} ({each['unseen']} of {each['experts']})" for each in found])
        said = f"no token of the calibration reached some experts of {counted(len(found), 'weight')}: {weights}"
        if settings.unseen == REFUSE:
            raise FormatError(f"{said}; calibrate on more or other text, or leave calibration.unseen out")
        logger.warning("%s; llama-quantize takes all their columns for equally important", said)
    return found
