"""Install the packages that read data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.toolchain.environments import build_datasets

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]) as run:
    build_datasets(Path(snakemake.input.lock), Path(snakemake.output.record), run.log)
