"""Measure the speed of the BF16 model and its quants."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.speed import Tools, measure_speed
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, params = snakemake.input, snakemake.params
models = zip(params.labels, map(Path, given.models), map(Path, given.records), strict=True)
with job(snakemake.log[0]) as log:
    tools = Tools(Path(given.bench), Path(given.server), Path(given.backend), snakemake.threads, log)
    measure_speed(list(models), tools, params.settings, params.context, Path(snakemake.output.record))
