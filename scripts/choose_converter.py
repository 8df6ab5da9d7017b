"""Choose the converter of a checkpoint."""

from typing import TYPE_CHECKING

from requant.pipeline.choose_converter import choose_converter
from requant.pipeline.job import job, paths

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
with job(snakemake.log[0]):
    choose_converter(given.source, given.toolchain, snakemake.params.asked, made.record)
