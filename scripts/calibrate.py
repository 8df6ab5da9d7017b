"""Compute the importance matrix."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.calibrate import calibrate
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

inputs = [Path(path) for path in snakemake.input]
out, record = (Path(path) for path in snakemake.output)
with job(snakemake.log[0]) as log:
    calibrate(*inputs, snakemake.params.settings, out, record, snakemake.threads, log)
