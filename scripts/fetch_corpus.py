"""Rebuild the texts of a recipe's corpus."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.job import job
from requant.sources import fetch_corpus

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

record = Path(snakemake.output.record)
tree = Path(snakemake.input.toolchain).with_name("source")
with job(snakemake.log[0]):
    fetch_corpus(snakemake.params.pin, snakemake.params.texts, tree, record.parent, record)
