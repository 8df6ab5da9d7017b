"""Quantize with the importance matrix."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.job import job, paths
from requant.pipeline.quantize import Tools, quantize
from requant.pipeline.settings import Calibration

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
model, imatrix = Product(given.model, given.model_record), Product(given.imatrix, given.imatrix_record)
settings, out = Calibration.of(snakemake.params.settings), Product(made.quant, made.record)
tools = Tools(given.tool, next(iter(given.lanes), None))
with job(snakemake.log[0], snakemake.threads) as run:
    quantize(model, imatrix, tools, snakemake.wildcards.kind, settings, out, run)
