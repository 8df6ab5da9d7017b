"""The verbs for who publishes: ``requant publish``, ``requant attest`` and ``requant new-key``."""

import sys
from pathlib import Path

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH, Output
from requant.release.method import Method


@click.command(
    cls=Verb,
    short_help="Bring a release to hubs, and compare what they record.",
    examples=[
        "requant publish release --to huggingface:somebody/Tiny-Qwen3-GGUF",
        "requant publish release --to huggingface:somebody/Tiny-Qwen3-GGUF --to modelscope:somebody/Tiny-GGUF --upload",
    ],
)
@click.argument("release", type=PATH)
@click.option(
    "--to", "names", metavar="HUB:OWNER/NAME", multiple=True, required=True,
    help="Where to: huggingface:OWNER/NAME or modelscope:OWNER/NAME; may be given several times.",
)  # fmt: skip
@click.option("--upload", is_flag=True, help="Carry it out; without it is only shown what would change.")
@click.option("--review", is_flag=True, help="Open a pull request instead, or renew it; huggingface only.")
@click.option("--delete", is_flag=True, help="Delete there what the release does not hold.")
@click.option("--private", is_flag=True, help="Make a repository that does not exist yet a private one.")
@click.option("--key", metavar="FILE", type=PATH, help="The public key that the attestation must be signed with.")
def publish(
    release: Path, names: tuple[str, ...], upload: bool, review: bool, delete: bool, private: bool, key: Path | None
) -> None:
    """Show what bringing RELEASE to hubs would change at each, and do it with --upload.

    Only a release that requant verify passes is brought. Large files go first, sums, manifest and card last; a run that
    was stopped is typed again. Then each hub is asked what it records, and the answer is compared with the release and
    written to published.json beside its folder. Tokens are taken from where hf auth login and modelscope login put
    them, or from HF_TOKEN and MODELSCOPE_API_TOKEN.
    """
    from requant.places.destinations.destination import destination
    from requant.release.publication import Asked, publish_release

    if len({*names}) < len(names):
        raise click.UsageError("--to names a repository twice")
    places = [destination(name) for name in names]
    sys.exit(publish_release(release, places, Asked(upload, review, delete, private, key), click.echo))


@click.command(
    cls=Verb,
    short_help="Sign what a release was built from.",
    examples=["requant attest release --key release.key"],
)
@click.argument("release", type=PATH)
@click.option(
    "--key", metavar="FILE", type=PATH, help="The private key: Ed25519, EC for model-signing, none for sigstore."
)
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
