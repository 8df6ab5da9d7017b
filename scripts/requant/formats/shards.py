"""Shards of a checkpoint without an index, whose names say how many there are: ``model-00001-of-00002.safetensors``.

``index_tensors`` in ``conversion/base.py`` of llama.cpp 0c1e57098bba reads all files whose names begin with ``model``.
"""

import re
from collections.abc import Collection

from requant.ground.errors import FormatError
from requant.ground.text import listed

WEIGHTS = re.compile(r"model[^/]*\.safetensors")
SHARD = re.compile(r"(?P<stem>model[^/]*)-\d{5}-of-(?P<count>\d{5})\.safetensors", re.ASCII)
MAX_SHARDS = 1024
"""Files of one checkpoint; the largest that are published have some two hundred."""


def series(names: Collection[str], shown: str) -> list[str]:
    """All shards of the one checkpoint among the files of a folder, which messages call ``shown``; else nothing.

    >>> series(["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", "config.json"], "here")
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']

    Raises:
        FormatError: when some are missing.
    """
    weights = sorted(name for name in names if WEIGHTS.fullmatch(name))
    shards = [found for name in weights if (found := SHARD.fullmatch(name))]
    kinds = {(each["stem"], each["count"]) for each in shards}
    if len(kinds) != 1 or len(shards) != len(weights):
        return []
    [(stem, count)] = kinds
    if int(count) > MAX_SHARDS:
        raise FormatError(f"{shown} holds {weights[0]}, one of more than {MAX_SHARDS:,} files: name the weights")
    wanted = [f"{stem}-{number + 1:05}-of-{count}.safetensors" for number in range(int(count))]
    if lost := sorted({*wanted} - {*weights}):
        raise FormatError(f"{shown} lacks {listed(lost)} of {int(count):,} files of weights: get all of them")
    return wanted if wanted == weights else []
