"""Measure the speed of the BF16 model and its quants."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.evaluation.speed import measure_speed
from requant.pipeline.job import job, paths
from requant.pipeline.settings import Speed
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, params = paths(snakemake.input), snakemake.params
models = dict(zip(params.labels, map(Product, given.models, given.records), strict=True))
with job(snakemake.log[0], snakemake.threads) as run:
    bench, server = (Instrument.open(tool, given.backend, run) for tool in (given.bench, given.server))
    record = Path(snakemake.output.record)
    measure_speed(models, bench, server, Speed.of(params.settings), params.context, record)
