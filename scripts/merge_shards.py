"""Add the shards of a calibration up to the importance matrix."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.job import job, paths
from requant.pipeline.merge_shards import merge_shards
from requant.pipeline.settings import Calibration

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made, params = paths(snakemake.input), paths(snakemake.output), snakemake.params
shards = [Product(*each) for each in zip(given.shards, given.records, strict=True)]
with job(snakemake.log[0]) as run:
    settings, out = Calibration.of(params.settings), Product(made.imatrix, made.record)
    merge_shards(shards, params.text, given.tool, settings, out, run)
