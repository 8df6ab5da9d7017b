"""The verb that measures: ``requant evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from requant.cli.command import Verb
from requant.cli.parameters import PATH, Output, keep_inputs
from requant.evaluation.behaviour.endpoint import THINKING
from requant.ground.text import printable

if TYPE_CHECKING:
    from requant.evaluation.behaviour.asking import Summary

WEEK = 7 * 24 * 3600
"""In seconds; no longer is waited for an answer."""


def _sendable(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A name that can be sent, and written into the results."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(
            f"{value!r} is not UTF-8: write the name as the server knows it", ctx, param
        ) from error
    return value


@click.command(
    cls=Verb,
    short_help="Ask a server the questions of a suite.",
    examples=["requant evaluate suite.jsonl --endpoint http://127.0.0.1:8080/v1 --model qwen3 --out answers.jsonl"],
)
@click.argument("suite", type=PATH)
@click.option("--endpoint", "url", metavar="URL", required=True, help="The server, such as http://127.0.0.1:8080/v1.")
@click.option(
    "--model", metavar="NAME", required=True, callback=_sendable, help="The model's name, as the server knows it."
)
@click.option("--out", metavar="FILE", type=Output(), required=True, help="The results; a stopped run goes on.")
@click.option("--thinking", type=click.Choice(THINKING), default="default", show_default=True, help="With reasoning?")
@click.option("--parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Questions at a time.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable that holds the server's key.")
@click.option("--items", type=click.IntRange(min=1), metavar="N", help="Ask only N items, drawn with --seed.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="What --items draws with.")
@click.option(
    "--timeout", type=click.IntRange(1, WEEK), default=1800, show_default=True, help="Seconds for one answer."
)
def evaluate(
    suite: Path, url: str, model: str, out: Path, thinking: str, parallel: int, api_key_env: str | None,
    items: int | None, seed: int, timeout: int,
) -> None:  # fmt: skip
    """Ask a server the questions of SUITE and verify its answers.

    The exit code is 0 however many answers are wrong, and 3 if the server answers nothing any more.
    """
    from requant.evaluation.behaviour import asking as behaviour
    from requant.evaluation.behaviour.endpoint import Endpoint, Settings, key_from
    from requant.evaluation.behaviour.suite import drawn, read_suite

    keep_inputs((suite,), (out,))
    questions = read_suite(suite)
    chosen = drawn(questions.items, items, seed)
    endpoint = Endpoint(url, key_from(api_key_env), timeout)
    try:
        results = behaviour.run(questions, chosen, endpoint, Settings(model, thinking), out, parallel)
    finally:
        endpoint.close()
    _print_summary(suite, model, behaviour.summary(results.outcomes))
    click.echo(f"wrote {out}")


def _print_summary(suite: Path, model: str, found: "Summary") -> None:
    from rich.table import Table

    from requant.ground.consoles import console

    click.echo(f"suite: {printable(suite.name)}\nmodel: {printable(model)}")
    table = Table("items", "passed", "failed", "truncated", "errors", "score", "95 % interval")
    score = "-" if found.score is None else f"{found.score:.1%}"
    counts = (found.items, found.passed, found.failed, found.truncated, found.errors)
    interval = f"{found.interval.low:.1%} to {found.interval.high:.1%}"
    table.add_row(*map(str, counts), score, interval)
    console().print(table)
