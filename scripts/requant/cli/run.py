"""The verb that runs a model: ``requant serve``."""

from pathlib import Path

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH


@click.command(
    cls=Verb,
    short_help="Check a release or a GGUF, and serve it.",
    examples=["requant serve release", "requant serve release/model-Q4_K_M.gguf --port 8081 --ctx-size 8192"],
)
@click.argument("model", type=PATH)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 is any free one.")
@click.option(
    "--ctx-size", "context", metavar="TOKENS", type=click.IntRange(64, 1 << 24),
    help="Of all conversations together; by default as the card says.",
)  # fmt: skip
def serve(model: Path, port: int, context: int | None) -> None:
    """Serve MODEL, a release or one GGUF, through an API like OpenAI's, on this machine only.

    Its digest is compared with SHA256SUMS and manifest.json beside it. Then llama-server, as the workflow builds it,
    runs it with the flags of the card, on a GPU where a backend for it is built. What to type is printed as soon as it
    answers.

    Ctrl-C, or SIGTERM, ends it, with exit code 0. Nothing is left running, not even after kill -9.
    """
    from requant.release.service import serve_model

    serve_model(model, context, port, click.echo)
