"""Rebuild a release from its manifest and compare."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.release.rebuild import rebuild_release

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

audited = Path(snakemake.input.manifest).parent
text, document = Path(snakemake.log.text), Path(snakemake.log.document)
with job(snakemake.log.log) as run:
    how = (snakemake.params.snakefile, snakemake.config, text, document, snakemake.threads, run.log)
    if code := rebuild_release(audited, *how).exit_code:
        sys.exit(code)
