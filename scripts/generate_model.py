"""Generate the random model of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.job import job
from requant.sources import generate_model

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

record = Path(snakemake.output.record)
tree = Path(snakemake.input.toolchain).with_name("source")
with job(snakemake.log[0]):
    generate_model(tree, snakemake.params.shape, snakemake.params.name, record.parent, record)
