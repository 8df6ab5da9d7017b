"""Convert a checkpoint to a BF16 GGUF."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.convert import Converters, convert_checkpoint
from requant.pipeline.job import job, paths
from requant.toolchain.tree import proven_tree

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
with job(snakemake.log[0]) as run:
    converters = Converters(proven_tree(given.toolchain), given.choice, next(iter(given.environment), None))
    convert_checkpoint(given.source, snakemake.params.name, converters, Product(made.model, made.record), run.log)
