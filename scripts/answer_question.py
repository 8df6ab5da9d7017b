"""Ask a released model one question."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.answer_question import answer_question
from requant.pipeline.job import job, paths
from requant.toolchain.instrument import Instrument

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given = paths(snakemake.input)
with job(snakemake.log[0], snakemake.threads) as run:
    instrument = Instrument.open(given.tool, given.backend, run)
    answer_question(given.model, instrument, snakemake.params.question, Path(snakemake.output.answer))
