"""Make a BF16 GGUF from a GGUF."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.convert import expand_gguf
from requant.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

file, source, tool = (Path(path) for path in snakemake.input)
out, record = (Path(path) for path in snakemake.output)
with job(snakemake.log[0]) as log:
    expand_gguf(file, source, tool, out, record, snakemake.threads, log)
