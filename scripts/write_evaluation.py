"""Write what was measured of a release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.document import write_evaluation
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given = snakemake.input
parts = [[Path(path) for path in part] for part in (given.fidelity, given.tensors, given.speed, given.behaviour)]
with job(snakemake.log[0]):
    write_evaluation(*parts, Path(snakemake.output.evaluation))
