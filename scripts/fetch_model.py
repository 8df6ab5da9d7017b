"""Fetch the weights of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.fetch_model import fetch_model
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

machine, record = snakemake.resources, Path(snakemake.output.record)
with job(snakemake.log[0]) as run:
    fetch_model(
        snakemake.params.pin,
        machine.mirror,
        machine.quants.split(),
        machine.keep.split(),
        record.parent,
        record,
        run.log,
    )
