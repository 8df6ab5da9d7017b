"""Give a finished file its place in the release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.release.folder import place_file

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    place_file(Path(snakemake.input.file), Path(snakemake.output.file))
