"""Fetch Berkeley's function-calling sets and make suites of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.behaviour.berkeley import fetch_suites
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as run:
    fetch_suites(snakemake.params.pin, Path(snakemake.output[0]).parent, run.log)
