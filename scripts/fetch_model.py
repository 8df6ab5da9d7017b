"""Fetch the weights of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.job import job
from requant.sources import fetch_model

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

params, output = snakemake.params, snakemake.output
with job(snakemake.log[0]) as log:
    out = Path(output.record).parent
    fetch_model(params.pin, params.source, params.quants, out, Path(output.record), log)
