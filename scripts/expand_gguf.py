"""Make a BF16 GGUF from a GGUF."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.convert import expand_gguf
from requant.pipeline.job import job, paths

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
[file] = given.files
with job(snakemake.log[0], snakemake.threads) as run:
    expand_gguf(file, given.source, given.tool, Product(made.model, made.record), run)
