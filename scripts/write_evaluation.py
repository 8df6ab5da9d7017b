"""Write what was measured of a release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.evaluation.document import write_evaluation
from requant.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

quants, tensors = ([Path(path) for path in paths] for paths in (snakemake.input.quants, snakemake.input.tensors))
[baseline], [speed] = ([*map(Path, paths)] or [None] for paths in (snakemake.input.baseline, snakemake.input.speed))
with job(snakemake.log[0]):
    fidelity = (baseline, quants) if baseline else None
    write_evaluation(fidelity, speed, tensors, Path(snakemake.output.evaluation))
