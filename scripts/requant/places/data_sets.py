"""The package ``datasets``, which reads the rows of a data set and is installed only where a recipe needs it."""

from typing import Any

from requant.ground.errors import ToolError


def import_datasets() -> Any:
    """The package, imported as late as it is needed, since that takes seconds.

    Raises:
        ToolError: when it, or a package that it needs, is not there.
    """
    try:
        import datasets
        import datasets.exceptions
    except ImportError as error:
        raise ToolError(
            f"reading a data set needs the package datasets ({error}): run the workflow, whose rule build_datasets "
            "installs it, or pip install 'requant[datasets]'"
        ) from error
    return datasets
