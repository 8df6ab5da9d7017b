"""An audit's outcome for the terminal that standard output is: the headline, then what matters."""

from rich.table import Table
from rich.text import Text

from requant.audit.forms.content import FILES, MOST, Document, Listing, answers, commands, facts, listings, remarks
from requant.ground.consoles import console
from requant.ground.exit_codes import ExitCode
from requant.ground.text import plain

COLOURS = {ExitCode.OK: "bold green", ExitCode.AGAINST: "bold red", ExitCode.UNCHECKED: "bold yellow"}


def as_text(document: Document) -> str:
    """What stands on the terminal."""
    document = plain(document)
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(Text(document["headline"], COLOURS[document["exit_code"]]))
        table = Table(box=None, show_header=False, pad_edge=False)
        for question, each in answers(document):
            table.add_row(question, Text(each["status"], COLOURS[each["exit_code"]]), Text(each["sentence"]))
        terminal.print(table)
        grid = Table(box=None, show_header=False, pad_edge=False)
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in (*facts(document), *commands(document)):
            if name != FILES:
                grid.add_row(name, Text(value))
        terminal.print(grid)
        for listing in listings(document):
            terminal.print(_table(listing))
        for text in remarks(document):
            terminal.print(Text(f"note: {text}"))
    return captured.get().removesuffix("\n")


def _table(listing: Listing) -> Table:
    table = Table(*listing.head, pad_edge=False)
    for row in listing.rows[:MOST]:
        # As text, not as markup: names come from the file.
        table.add_row(*map(Text, row))
    if len(listing.rows) > MOST:
        table.add_row(f"and {len(listing.rows) - MOST:,} more", *[""] * (len(listing.head) - 1))
    return table
