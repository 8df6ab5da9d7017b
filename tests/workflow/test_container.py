"""The image of ``Containerfile``: it gets the files that the demo needs, and fetches all that the demo would."""

import shlex
from pathlib import Path

from support.container import copy_as_told, prepared, started
from support.plans import planned

FETCHING = ("fetch_", "build_converter", "build_datasets", "build_harness")
"""How the names of rules begin that need a network."""


def test_what_the_demo_fetches_is_fetched_before(tmp_path: Path) -> None:
    checkout = copy_as_told(tmp_path)
    setup, fetching = prepared()
    assert (setup, started()) == ("make setup", ["make", "demo"])
    program, *arguments = shlex.split(fetching)
    assert program == ".venv/bin/snakemake"
    fetched = planned(*arguments, cwd=checkout)
    demo = planned("--configfile", "config/tiny.yaml", cwd=checkout)
    assert fetched.keys() == {name for name in demo if name.startswith(FETCHING)} == {"fetch_toolchain", "fetch_corpus"}
