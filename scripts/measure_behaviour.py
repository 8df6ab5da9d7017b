"""Ask a model the questions of all suites."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.documents.records import Product
from requant.evaluation.behaviour.models import Asking, measure_behaviour
from requant.pipeline.job import job, paths
from requant.pipeline.settings import Behaviour
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, params = paths(snakemake.input), snakemake.params
model, harness = Product(given.model, given.record), next(iter(given.harness), None)
with job(snakemake.log[0], snakemake.threads) as run:
    server, settings = Instrument.open(given.server, given.backend, run), Behaviour.of(params.settings)
    asking = Asking(server, harness, settings, params.context, Path(params.answers))
    measure_behaviour(snakemake.wildcards.label, model, given.suites, asking, Path(snakemake.output.record))
