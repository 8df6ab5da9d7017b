"""The ``requant`` command: its verbs, by group."""

import click

from requant.cli.check import audit, survey, verify
from requant.cli.command import Verbs
from requant.cli.compare import diff
from requant.cli.former import compare, compare_behaviour, show
from requant.cli.machine import doctor, gc
from requant.cli.make import convert, make, new_recipe, pin
from requant.cli.measure import evaluate
from requant.cli.publish import attest, new_key, publish
from requant.cli.run import serve
from requant.cli.shell import completion

GROUPS = {
    "Make": (make, pin, new_recipe, convert),
    "Check": (audit, survey, verify),
    "Compare": (diff,),
    "Publish": (publish, attest, new_key),
    "Run": (serve,),
    "Measure": (evaluate,),
    "Here": (doctor, gc, completion),
}


@click.group(cls=Verbs, groups=GROUPS)
@click.version_option(package_name="requant")
def main() -> None:
    """Make reproducible GGUF quantizations, and look at them.

    requant VERB --help shows what a verb takes, with examples.
    """


for former in (show, compare, compare_behaviour):
    main.add_command(former)
