"""Install the environment of the upstream converter."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.toolchain.environments import build_converter

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

locks = Path(snakemake.input.locks[0]).parent
with job(snakemake.log[0]) as run:
    build_converter(locks, Path(snakemake.output.record), run.log)
