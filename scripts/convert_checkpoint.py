"""Convert a checkpoint to a BF16 GGUF."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.convert import convert_checkpoint
from requant.pipeline.job import job
from requant.toolchain.tree import proven_tree

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

files = [Path(file) for file in snakemake.input.files]
source, out, record = (Path(path) for path in (snakemake.input.source, *snakemake.output))
with job(snakemake.log[0]) as log:
    tree = proven_tree(Path(snakemake.input.toolchain))
    environment = Path(snakemake.input.converter)
    convert_checkpoint(files, source, snakemake.params.name, tree, environment, out, record, log)
