"""Compute the importance matrix, or a shard of it."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.calibrate import calibrate
from requant.pipeline.job import job, paths
from requant.pipeline.settings import Calibration
from requant.pipeline.shards import split
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
model, out = Product(given.model, given.model_record), Product(made.imatrix, made.record)
settings = Calibration.of(snakemake.params.settings)
with job(snakemake.log[0], snakemake.threads) as run:
    instrument, shard = Instrument.open(given.tool, given.backend, run), split(settings).get(out.file.stem)
    calibrate(model, given.text, instrument, settings, out, shard)
