"""Quantize without importance matrix, to compare with."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.job import job, paths
from requant.pipeline.quantize import Tools, quantize_plain

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
model, out = Product(given.model, given.model_record), Product(made.quant, made.record)
tools = Tools(given.tool, next(iter(given.lanes), None))
with job(snakemake.log[0], snakemake.threads) as run:
    quantize_plain(model, tools, snakemake.wildcards.kind, out, run)
