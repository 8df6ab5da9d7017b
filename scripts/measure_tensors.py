"""Compare every tensor of a quant with its BF16 weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.evaluation.fidelity.tensors import measure_tensors
from requant.pipeline.job import job, paths

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, record = paths(snakemake.input), Path(snakemake.output.record)
with job(snakemake.log[0]):
    measure_tensors(given.model, Product(given.quant, given.record), given.imatrix, given.tool, record)
