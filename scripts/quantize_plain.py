"""Quantize without importance matrix, to compare with."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.pipeline.quantize import quantize_plain

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

inputs = [Path(path) for path in snakemake.input]
out, record = (Path(path) for path in snakemake.output)
with job(snakemake.log[0]) as log:
    quantize_plain(*inputs, snakemake.wildcards.kind, out, record, snakemake.threads, log)
