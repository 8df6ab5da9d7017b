"""Compare the predictions of a quant with those of the BF16 model."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.evaluation.fidelity.predictions import Means, measure_quant
from requant.pipeline.job import job, paths
from requant.pipeline.settings import Fidelity
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, settings = paths(snakemake.input), Fidelity.of(snakemake.params.settings)
quant, logits = Product(given.quant, given.record), Product(given.logits, given.baseline)
with job(snakemake.log[0], snakemake.threads) as run:
    means = Means(given.text, Instrument.open(given.tool, given.backend, run), settings)
    measure_quant(quant, logits, means, snakemake.wildcards.how == "imatrix", Path(snakemake.output.record))
