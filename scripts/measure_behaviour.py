"""Ask a model the questions of all suites."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.questions import Asking, measure_behaviour
from requant.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given, params = snakemake.input, snakemake.params
model, record, server, backend = (Path(path) for path in (given.model, given.record, given.server, given.backend))
suites = [Path(path) for path in given.suites]
with job(snakemake.log[0]) as log:
    asking = Asking(server, backend, params.settings, params.context, snakemake.threads, log)
    out = (Path(params.answers), Path(snakemake.output.record))
    measure_behaviour(snakemake.wildcards.label, model, record, suites, asking, *out)
