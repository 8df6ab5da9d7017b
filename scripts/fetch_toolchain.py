"""Fetch and prove llama.cpp's source."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.toolchain.tree import fetch_toolchain

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

record = Path(snakemake.output.record)
with job(snakemake.log[0]) as run:
    fetch_toolchain(snakemake.params.pin, record.with_name("source"), record, run.log)
