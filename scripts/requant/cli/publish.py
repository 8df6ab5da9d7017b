"""The verbs for who publishes: ``requant attest`` and ``requant new-key``."""

from pathlib import Path

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH, Output
from requant.release.method import Method


@click.command(
    cls=Verb,
    short_help="Sign what a release was built from.",
    examples=["requant attest release --key release.key"],
)
@click.argument("release", type=PATH)
@click.option("--key", metavar="FILE", type=PATH, help="The private key: Ed25519, or EC for model-signing.")
@click.option(
    "--method", type=click.Choice([method.value for method in Method]), default=Method.DSSE.value, show_default=True
)
def attest(release: Path, key: Path | None, method: str) -> None:
    """Sign what RELEASE was built from: an in-toto statement, or a model signature of the OpenSSF."""
    from requant.release.signing import sign_release

    click.echo(f"wrote {sign_release(release, key, Method(method))}")


@click.command(
    "new-key", cls=Verb, short_help="Make a key pair to sign with.", examples=["requant new-key release.key"]
)
@click.argument("path", type=Output())
def new_key(path: Path) -> None:
    """Make an Ed25519 key pair: the private key in PATH, the public one in PATH.pub."""
    from requant.release.keys import new_key as make

    click.echo(f"wrote {path} (keep it secret) and {path}.pub, key id {make(path)}")
