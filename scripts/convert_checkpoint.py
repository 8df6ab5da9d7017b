"""Convert a checkpoint to a BF16 GGUF."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.convert import Converter, convert_checkpoint
from requant.pipeline.job import job, paths
from requant.toolchain.tree import proven_tree

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
with job(snakemake.log[0]) as run:
    converter = Converter(proven_tree(given.toolchain), given.converter)
    out = Product(made.model, made.record)
    convert_checkpoint(given.files, given.source, snakemake.params.name, converter, out, run.log)
