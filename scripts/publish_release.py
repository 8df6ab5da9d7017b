"""Publish the release where the recipe says."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from requant.pipeline.job import job
from requant.places.destinations.destination import destination
from requant.release.publication import Asked, publish_release

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

release, logger = Path(snakemake.input.sums).parent, logging.getLogger("requant")
with job(snakemake.log[0]):
    places = [destination(name) for name in snakemake.params.places]
    if code := publish_release(release, places, Asked(upload=True), logger.warning):
        logger.error("error: not all is there as released; what is said above tells of each place, and why")
        sys.exit(code)
