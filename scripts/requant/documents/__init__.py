"""Our own papers: pins and the inputs they become, records of steps, the manifest as typed parts, sums, the evaluation.

With their schemas, and the templates of those for people. Everybody from ``places`` upwards may enter.
"""

__all__ = [
    "bilingual",
    "consistency",
    "entries",
    "evaluation",
    "file_names",
    "inputs",
    "licences",
    "manifest",
    "pins",
    "records",
    "reports",
    "results",
    "schemas",
    "sums",
    "templates",
    "yaml_text",
]
