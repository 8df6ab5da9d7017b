"""Quantize with the importance matrix."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.pipeline.quantize import quantize

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

inputs = [Path(path) for path in snakemake.input]
out, record = (Path(path) for path in snakemake.output)
kind, threads = snakemake.wildcards.kind, snakemake.threads
with job(snakemake.log[0]) as log:
    quantize(*inputs, kind, snakemake.params.settings, out, record, threads, log)
