"""Generate the random model of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.generate_model import generate_model
from requant.pipeline.job import job
from requant.toolchain.tree import proven_tree

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

record = Path(snakemake.output.record)
with job(snakemake.log[0]):
    tree = proven_tree(Path(snakemake.input.toolchain))
    generate_model(tree, snakemake.params.shape, snakemake.params.name, record.parent, record)
