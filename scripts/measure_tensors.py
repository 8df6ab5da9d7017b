"""Compare every tensor of a quant with its BF16 weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.fidelity.tensors import measure_tensors
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    measure_tensors(*(Path(path) for path in snakemake.input), Path(snakemake.output.record))
