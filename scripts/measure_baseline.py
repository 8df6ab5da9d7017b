"""Measure the BF16 model and keep its predictions."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.fidelity.predictions import Means, measure_baseline
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

model, record, *means = (Path(path) for path in snakemake.input)
out = [Path(path) for path in snakemake.output]
with job(snakemake.log[0]) as log:
    measure_baseline(model, record, Means(*means, snakemake.params.settings, snakemake.threads, log), *out)
