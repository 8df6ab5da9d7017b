"""What every verb is, and the command around them: groups in the help, examples, exit codes, errors in one sentence."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import Any

import click

from requant.ground.errors import sentence
from requant.ground.exit_codes import ExitCode, exit_code
from requant.ground.logs import log_to
from requant.ground.text import without_secrets


class Verb(click.Command):
    """A verb. Its ``examples`` stand in its help, and the tests run each of them."""

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's form
        """Write the examples, each on a line of its own however long."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {example}\n" for example in self.examples))


class Verbs(click.Group):
    """The command. ``groups`` are its verbs under the headings of its help."""

    def __init__(self, *arguments: Any, groups: Mapping[str, Sequence[click.Command]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.groups = groups
        for verb in (verb for verbs in groups.values() for verb in verbs):
            self.add_command(verb)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's form
        """Every verb, in the order of the help."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's form
        """Write the verbs under their headings."""
        width = max(len(str(verb.name)) for verbs in self.groups.values() for verb in verbs)
        for heading, verbs in self.groups.items():
            with formatter.section(heading):
                formatter.write_dl([(f"{verb.name:<{width}}", verb.get_short_help_str(limit=80)) for verb in verbs])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's form
        """Write the table of exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), code.english) for code in ExitCode])

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command, as long as somebody reads what it says."""
        with _as_long_as_somebody_reads():
            return super().main(*arguments, **options)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read what was typed, which may be answered with the help."""
        with _as_long_as_somebody_reads():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; what it raises becomes one sentence, and a code of the table. Warnings go to standard error."""
        log_to([logging.StreamHandler(sys.stderr)], logging.WARNING)
        with _as_long_as_somebody_reads():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as interruption:
                click.echo("interrupted", err=True)
                sys.exit(exit_code(interruption))
            except click.ClickException as error:
                error.__dict__["message"] = without_secrets(error.message)  # final, says its type
                raise
            except (click.Abort, click.exceptions.Exit, BrokenPipeError):
                raise
            except Exception as error:  # noqa: BLE001 - a bug must not look like evidence
                said = sentence(error) or f"this is a bug in requant: report it with {_kept_traceback()}"
                click.echo(f"error: {said}", err=True)
                sys.exit(exit_code(error))


@contextmanager
def _as_long_as_somebody_reads() -> Iterator[None]:
    """End with the code of what was not done where nobody reads on: that is no evidence, which click's 1 would say."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)  # nothing is left to flush at the end
        sys.exit(ExitCode.UNCHECKED)


def _kept_traceback() -> str:
    """Write the traceback of what is being handled to a file of its own, and give its name."""
    with NamedTemporaryFile("w", prefix="requant-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(without_secrets(traceback.format_exc()))
    return file.name
