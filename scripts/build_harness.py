"""Install the environment of the evaluation harness."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.toolchain.environments import build_harness

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as run:
    build_harness(Path(snakemake.input.lock), Path(snakemake.output.record), run.log)
