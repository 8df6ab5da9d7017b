"""Ask a model the questions of all suites."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.behaviour.models import Asking, measure_behaviour
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, params = snakemake.input, snakemake.params
model, record, server, backend = (Path(path) for path in (given.model, given.record, given.server, given.backend))
suites, harness = [Path(path) for path in given.suites], next(map(Path, given.harness), None)
with job(snakemake.log[0]) as log:
    how = (params.settings, params.context, snakemake.threads, Path(params.answers), log)
    asking = Asking(server, backend, harness, *how)
    measure_behaviour(snakemake.wildcards.label, model, record, suites, asking, Path(snakemake.output.record))
