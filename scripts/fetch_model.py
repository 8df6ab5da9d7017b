"""Fetch the weights of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.fetch_model import fetch_model
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

# Not params: another mirror or another quant is no reason to download the weights again.
config, record = snakemake.config, Path(snakemake.output.record)
with job(snakemake.log[0]) as run:
    fetch_model(snakemake.params.pin, config["source"], config["quants"], record.parent, record, run.log)
