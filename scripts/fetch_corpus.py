"""Rebuild the texts of a recipe's corpus."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.fetch_corpus import fetch_corpus
from requant.pipeline.job import job
from requant.toolchain.environments import add_packages
from requant.toolchain.tree import proven_tree

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

record = Path(snakemake.output.record)
with job(snakemake.log[0]):
    for packages in snakemake.input.packages:
        add_packages(Path(packages))
    tree = proven_tree(Path(snakemake.input.toolchain))
    fetch_corpus(snakemake.params.pin, snakemake.params.texts, tree, record.parent, record)
