"""A report in every form that it has. All of them show the document for machines, so none says what others do not."""

from dataclasses import dataclass
from typing import Any

from requant.audit import imatrix as matrices
from requant.audit.forms.page import as_page
from requant.audit.forms.quotation import as_markdown
from requant.audit.forms.terminal import as_text
from requant.audit.imatrix import ImatrixReport
from requant.audit.report import Report, as_document
from requant.ground.text import plain


@dataclass(frozen=True)
class Rendered:
    """A report in every form that it has, the document for machines among them.

    A matrix alone has neither Markdown nor a page.
    """

    text: str
    document: dict[str, Any]
    markdown: str | None = None
    page: str | None = None


def rendered(report: Report | ImatrixReport) -> Rendered:
    """Show a report; the text is for the terminal that standard output is."""
    if isinstance(report, ImatrixReport):
        return Rendered(matrices.as_text(report), matrices.as_document(report))
    document = as_document(report)
    shown = plain(document)
    return Rendered(as_text(shown), document, as_markdown(shown), as_page(shown))
