"""Write the bill of materials of a release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.release.bill_of_materials import write_bill

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0]):
    write_bill(Path(snakemake.input.manifest), Path(snakemake.output.bill))
