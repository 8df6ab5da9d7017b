"""The verbs that check: ``requant audit``, ``requant survey`` and ``requant verify``."""

import logging
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from requant.cli.asking import how_to_ask, question_of
from requant.cli.command import Verb
from requant.cli.parameters import PATH, Output, as_file, as_json, hand_out, keep_inputs
from requant.documents.reports import write_text
from requant.ground.exit_codes import ExitCode
from requant.ground.logs import log_to


@click.command(
    cls=Verb,
    short_help="Does a quant derive from the weights that it names?",
    examples=[
        "requant audit release --source weights --full",
        "requant audit imatrix.gguf --source model.gguf",
    ],
)
@click.argument("subject", shell_complete=as_file)
@click.option(
    "--source",
    metavar="WEIGHTS",
    shell_complete=as_file,
    help="The weights: OWNER/NAME@REVISION on the Hub, a folder, or an unquantized GGUF, whole or split.",
)
@click.option(
    "--imatrix",
    metavar="FILE",
    shell_complete=as_file,
    help="The importance matrix, imatrix.gguf or an old imatrix.dat; by default one beside SUBJECT.",
)
@click.option(
    "--fit-imatrix",
    is_flag=True,
    help="Where no importances explain Q4_0, Q4_1, Q5_0 or Q5_1, read some off the blocks and try them on other rows.",
)
@how_to_ask
@click.option("--toolchain", metavar="NAME", help="The llama.cpp of the pin table to derive with.")
@as_json
@click.option("--markdown", metavar="FILE", type=Output(), help="Write a summary to FILE, for a discussion page.")
@click.option("--html", "page", metavar="FILE", type=Output(), help="Write all of it to FILE, as one page to look at.")
@click.option("--attest", metavar="FILE", type=Output(), help="Write a signed statement of a passed full audit.")
@click.option("--key", metavar="FILE", type=PATH, help="The Ed25519 private key that --attest signs with.")
def audit(
    subject: str, source: str | None, imatrix: str | None, fit_imatrix: bool, toolchain: str | None, out: Path | None,
    markdown: Path | None, page: Path | None, attest: Path | None, key: Path | None, **asked: Any,
) -> None:  # fmt: skip
    """Ask four questions of the quant SUBJECT: weights, recipe, metadata, coverage.

    Does it derive from the weights, what was it made with, do its metadata belong to them, how much of it was read? Of
    an importance matrix: could it have been measured on them?

    SUBJECT is a file, a folder, OWNER/NAME or hf://OWNER/NAME[@REVISION][/FILE] on the Hub, ms://... for ModelScope,
    the address of a page there, or any https:// address of a file; OWNER/NAME:Q4_K_M is one of a repository's quants.
    Of a split GGUF any part stands for all. The exit code is 0 only where every answer is good, of an
    importance matrix too, for weights that --source named or --trust-subject accepts.
    """
    from requant.audit.question import audit as carry_out
    from requant.audit.render import rendered

    question = replace(
        question_of(**asked), subject=subject, weights=source, imatrix=imatrix, fit_imatrix=fit_imatrix,
        toolchain=toolchain,
    )  # fmt: skip
    if (attest is None) is not (key is None) or (attest is not None and question.rows is not None):
        raise click.UsageError("--attest needs --key and --full")
    keep_inputs((subject, source, imatrix, key), (out, markdown, page, attest))
    if key is not None:
        from requant.release.keys import read_private_key

        read_private_key(key)
    log_to([logging.StreamHandler(sys.stderr)])
    report = carry_out(question)
    found = rendered(report)
    if found.markdown is None and any(path is not None for path in (markdown, page, attest)):
        raise click.UsageError("--markdown, --html and --attest are for quants, SUBJECT is an importance matrix")
    hand_out(found.text, found.document, out)
    if markdown is not None and found.markdown is not None:
        write_text(markdown, found.markdown)
    if page is not None and found.page is not None:
        write_text(page, found.page)
    if attest is not None and key is not None and report.exit_code == ExitCode.OK:
        from requant.release.attestation import sign_bundle
        from requant.release.derivation import derivation_statements

        sign_bundle(derivation_statements(found.document, datetime.now(UTC)), key, attest)
    elif attest is not None:
        click.echo(f"{attest} was not written: only a passed audit is attested", err=True)
    sys.exit(report.exit_code)


@click.command(
    cls=Verb,
    short_help="What do audits find of many quants?",
    examples=["requant survey quants.txt", "requant survey quants.txt --out october --rows 256"],
)
@click.argument("listed", metavar="LIST", type=PATH)
@click.option(
    "--out",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, writable=True, path_type=Path),
    default="survey",
    show_default=True,
    help="Where reports and tables go; what it holds a report of is not asked again.",
)
@how_to_ask
def survey(listed: Path, folder: Path, **asked: Any) -> None:
    """Audit the quants in LIST, one after the other, and write one table of what was found.

    LIST is a text file with a quant a line: SUBJECT, or SUBJECT SOURCE, as requant audit takes them. Names with spaces
    stand in double quotes; what follows a # is a comment. Paths begin where the command runs.

    FOLDER gets survey.html, survey.md, survey.json, and a report of each quant. Run again, after a kill or with a
    longer LIST, it asks only what has no report yet. The exit code is the first of 1, 4, 2, 3, 0 that any quant has.
    """
    from requant.audit.survey.asking import survey as carry_out
    from requant.audit.survey.listed import read_list
    from requant.audit.survey.table import as_document
    from requant.audit.survey.written import NAMES, as_text, write_table

    question = question_of(**asked)
    keep_inputs((listed,), [folder / name for name in NAMES])
    log_to([logging.StreamHandler(sys.stderr)])
    begun, clock = datetime.now(UTC), time.monotonic()
    rows = carry_out(read_list(listed), question, folder)
    document = as_document(rows, question, begun, time.monotonic() - clock)
    write_table(folder, document)
    click.echo(as_text(document, folder))
    sys.exit(document["exit_code"])


@click.command(
    cls=Verb,
    short_help="Do a release or a file agree with their papers?",
    examples=["requant verify release", "requant verify release --key release.key.pub --json report.json"],
)
@click.argument("release", type=PATH)
@click.option("--key", metavar="FILE", type=PATH, help="The public key that the attestation must be signed with.")
@click.option(
    "--statement",
    metavar="FILE",
    type=PATH,
    help="The statement of an audit; RELEASE is then the file that it is about.",
)
@click.option(
    "--source",
    metavar="WEIGHTS",
    shell_complete=as_file,
    help="The weights that the statement must be about: OWNER/NAME[@COMMIT], a weights root, a folder, or a GGUF.",
)
@as_json
def verify(release: Path, key: Path | None, statement: Path | None, source: str | None, out: Path | None) -> None:
    """List the files of RELEASE, and check that its digests, manifest, card and attestation agree.

    No weights are needed. Of a folder without manifest.json only the digests are checked. With --statement, check
    that RELEASE, one file, is what an audit attested; nothing is derived again.
    """
    from requant.release.verify_verdict import as_document, as_text

    keep_inputs((release, key, statement, source), (out,))
    if statement is not None:
        from requant.audit.attested import verify_statement

        log_to([logging.StreamHandler(sys.stderr)])
        found = verify_statement(release, statement, key, source)
    elif source is not None or release.is_file():
        raise click.UsageError("a file is verified with --statement, and --source belongs to it")
    else:
        from requant.release.verify import verify_release

        found = verify_release(release, key)
    hand_out(as_text(found), as_document(found), out)
    sys.exit(found.exit_code)
