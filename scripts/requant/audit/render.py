"""A report in every form that it has. All of them show the document for machines, so none says what others do not."""

from dataclasses import dataclass
from typing import Any

from requant.audit.forms.quotation import as_markdown
from requant.audit.forms.terminal import as_text
from requant.audit.recipe import imatrix as matrices
from requant.audit.recipe.imatrix import ImatrixReport
from requant.audit.report import Report, as_document


@dataclass(frozen=True)
class Rendered:
    """A report in every form that it has, the document for machines among them.

    A matrix alone has neither Markdown nor a page.
    """

    text: str
    document: dict[str, Any]
    markdown: str | None = None

    @property
    def page(self) -> str | None:
        """Drawn when it is asked for: it takes longer than all else."""
        if self.markdown is None:
            return None
        from requant.audit.forms.page import as_page

        return as_page(self.document)


def rendered(report: Report | ImatrixReport) -> Rendered:
    """Show a report; the text is for the terminal that standard output is."""
    if isinstance(report, ImatrixReport):
        return Rendered(matrices.as_text(report), matrices.as_document(report))
    document = as_document(report)
    return Rendered(as_text(document), document, as_markdown(document))
