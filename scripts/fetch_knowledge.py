"""Fetch the questions of MMLU or GPQA."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.behaviour.knowledge import fetch_knowledge
from requant.pipeline.job import job
from requant.toolchain.environments import add_packages

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    add_packages(Path(snakemake.input.packages))
    questions = Path(snakemake.output.questions)
    if why := fetch_knowledge(snakemake.params.pin, questions):
        logging.getLogger(__name__).warning("not run: %s; then run again with --forcerun %s", why, questions)
