"""Reading a data set to its end, as one call."""

from typing import Any

from requant.places.hub import dataset_rows


def read_rows(*arguments: Any) -> None:
    """Read every row of ``dataset_rows``, which is lazy."""
    assert [*dataset_rows(*arguments)]
