"""Measure the BF16 model and keep its predictions."""

from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.evaluation.fidelity.predictions import Means, measure_baseline
from requant.pipeline.job import job, paths
from requant.pipeline.settings import Fidelity
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, made = paths(snakemake.input), paths(snakemake.output)
model, logits = Product(given.model, given.model_record), Product(made.logits, made.record)
settings = Fidelity.of(snakemake.params.settings)
with job(snakemake.log[0], snakemake.threads) as run:
    instrument = Instrument.open(given.tool, given.backend, run)
    measure_baseline(model, Means(given.text, instrument, settings), logits)
