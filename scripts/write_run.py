"""Write what this run took."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.choose_converter import needs_upstream
from requant.pipeline.job import job
from requant.pipeline.run_times import write_run

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

folders = [Path(folder) for folder in snakemake.params.benchmarks]
builds = [Path(build) for build in snakemake.input.builds]
with job(snakemake.log[0]):
    folders += [Path(snakemake.params.upstream)] if any(map(needs_upstream, snakemake.input.choice)) else []
    write_run(folders, builds, Path(snakemake.output.run), Path(snakemake.output.table))
