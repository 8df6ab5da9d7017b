"""Build one llama.cpp program, strict."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.toolchain.build import build_tool
from requant.toolchain.tree import proven_tree

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

folder = Path(snakemake.output.record).parent
with job(snakemake.log[0], snakemake.threads) as run:
    tree = proven_tree(Path(snakemake.input.source))
    build_tool(tree, snakemake.wildcards.tool, folder, snakemake.params.commit, run)
