"""Write the report of a release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.page.page import write_report
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

files = [Path(snakemake.input[name]) for name in ("manifest", "evaluation", "times")]
with job(snakemake.log[0]):
    write_report(*files, Path(snakemake.output.report))
