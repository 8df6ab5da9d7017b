"""The forms of an audit's report: on a terminal, as Markdown, as one HTML page. Each shows the document alone."""

__all__ = ["content", "page", "quotation", "spoken", "terminal"]
