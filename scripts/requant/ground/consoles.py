"""Where tables are drawn on a terminal."""

from shutil import get_terminal_size

from rich.console import Console


def console() -> Console:
    """A console as wide as the terminal says that it is; rich itself fails where COLUMNS is ²."""
    columns, lines = get_terminal_size()
    return Console(markup=False, highlight=False, width=columns, height=lines)
