"""Write the model card of a release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.release.card import write_card

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

evaluation = Path(snakemake.input.evaluation[0]) if snakemake.input.evaluation else None
with job(snakemake.log[0]):
    write_card(Path(snakemake.input.manifest), evaluation, Path(snakemake.output.card))
