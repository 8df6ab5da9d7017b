"""Ask a released model one question."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.answer_question import answer_question
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

model, _, tool, backend = (Path(path) for path in snakemake.input)
out, threads = Path(snakemake.output.answer), snakemake.threads
with job(snakemake.log[0]) as log:
    answer_question(model, tool, backend, snakemake.params.question, out, threads, log)
