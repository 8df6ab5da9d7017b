"""Compute the importance matrix."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.pipeline.calibrate import calibrate
from requant.pipeline.job import job, paths
from requant.pipeline.settings import Calibration
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
model, out = Product(given.model, given.model_record), Product(made.imatrix, made.record)
settings = Calibration.of(snakemake.params.settings)
with job(snakemake.log[0], snakemake.threads) as run:
    calibrate(model, given.text, Instrument.open(given.tool, given.backend, run), settings, out)
