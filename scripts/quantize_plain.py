"""Quantize without importance matrix, to compare with."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.job import job, paths
from requant.pipeline.quantize import quantize_plain

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
model, out = Product(given.model, given.model_record), Product(made.quant, made.record)
with job(snakemake.log[0], snakemake.threads) as run:
    quantize_plain(model, given.tool, snakemake.wildcards.kind, out, run)
