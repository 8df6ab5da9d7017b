"""Install the environment of the evaluation harness."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.environment import build_harness
from requant.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as log:
    build_harness(Path(snakemake.input.lock), Path(snakemake.output.record), log)
