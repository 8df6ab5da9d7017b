"""Check a release and write SHA256SUMS."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.release.folder import write_sums

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

files = [Path(file) for file in snakemake.input.files]
with job(snakemake.log[0]):
    write_sums(files, Path(snakemake.input.manifest), Path(snakemake.output.sums))
