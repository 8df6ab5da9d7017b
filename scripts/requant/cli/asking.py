"""What verbs take that ask about quants: how much is read, and what passes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from requant.cli.parameters import at_most

if TYPE_CHECKING:
    from requant.audit.question import Question

OPTIONS = (
    click.option("--full", is_flag=True, help="Check every row of every tensor instead of a sample."),
    click.option("--rows", type=click.IntRange(1, 1 << 24), help="Rows to draw for a sample.  [default: 1024]"),
    click.option(
        "--seed", type=click.IntRange(0, (1 << 64) - 1), help="Draw these rows again; by default it is random."
    ),
    click.option("--exact", is_flag=True, help="Let only exact bytes pass, not another compiler's arithmetic."),
    click.option(
        "--trust-subject", is_flag=True, help="Take SUBJECT's own word for its weights where --source names none."
    ),
    click.option(
        "--allow-unchecked",
        metavar="KEY",
        multiple=True,
        help="Let this key of the header pass though it cannot be checked; may be given several times.",
    ),
    click.option(
        "--converter",
        is_flag=True,
        help="Ask upstream's converter about models unknown to requant; installs torch, once.",
    ),
    click.option("--jobs", type=click.IntRange(1, 256), help="Batches, and connections, at a time."),
    at_most,
)


def how_to_ask(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb these options; what they come to is for ``question_of``."""
    for option in reversed(OPTIONS):
        verb = option(verb)
    return verb


def question_of(
    *, full: bool, rows: int | None, seed: int | None, exact: bool, trust_subject: bool,
    allow_unchecked: tuple[str, ...], converter: bool, jobs: int | None, max_rate: int | None,
) -> "Question":  # fmt: skip
    """The question that these options ask, of no subject yet.

    Raises:
        UsageError: when they contradict each other.
    """
    from requant.audit.question import ROWS, Question

    if full and (rows is not None or seed is not None):
        raise click.UsageError("--full checks all rows: leave out --rows and --seed")
    return Question(
        "", rows=None if full else rows or ROWS, seed=seed, jobs=jobs, exact=exact, trust_subject=trust_subject,
        allowed=frozenset(allow_unchecked), converter=converter, max_rate=max_rate,
    )  # fmt: skip
