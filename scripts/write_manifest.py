"""Write the manifest of a release."""

from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.release.folder import write_manifest

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

given = snakemake.input
inputs = {"model": given.model_source, "corpus": given.corpus, "toolchain": given.toolchain}
records = {name: Path(path) for name, path in inputs.items()}
variants, quants = ([Path(path) for path in paths] for paths in (given.variants, given.quants))
with job(snakemake.log[0]):
    out = Path(snakemake.output.manifest)
    write_manifest(snakemake.params.recipe, records, variants, Path(given.model), Path(given.imatrix), quants, out)
