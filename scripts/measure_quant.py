"""Compare the predictions of a quant with those of the BF16 model."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.fidelity.predictions import Means, measure_quant
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

quant, record, logits, baseline, *means = (Path(path) for path in snakemake.input)
imatrix, out = snakemake.wildcards.how == "imatrix", Path(snakemake.output.record)
with job(snakemake.log[0]) as log:
    how = Means(*means, snakemake.params.settings, snakemake.threads, log)
    measure_quant(quant, record, logits, baseline, how, imatrix, out)
