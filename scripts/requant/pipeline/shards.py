"""Calibration in shards: which chunks of the text each job reads."""

from dataclasses import dataclass, replace

from requant.pipeline.settings import Calibration


@dataclass(frozen=True)
class Shard:
    """One of the jobs that calibrate: ``chunks`` chunks of the text, after the ``first`` ones that others read."""

    name: str
    first: int
    chunks: int


def measured(settings: Calibration) -> Calibration:
    """What decides the bytes of a shard: whether unseen experts are refused is asked of the sum."""
    return replace(settings, unseen=None)


def batches(settings: Calibration) -> int:
    """How many batches the chunks make, each of as many chunks as fit into one, the last perhaps of fewer."""
    return -(-settings.chunks * settings.context // settings.batch)


def split(settings: Calibration) -> dict[str, Shard]:
    """The shards of a calibration by name, in the order of the text; none where the recipe asks for none.

    They are cut between batches, so that each chunk is computed beside the same others as without shards. As many as
    the batches do not share out evenly have one batch more, those at the start.

    >>> shards = split(Calibration("portable", 10, 512, 1024, 512, False, shards=2))
    >>> [(shard.name, shard.first, shard.chunks) for shard in shards.values()]
    [('shard-1-of-2', 0, 6), ('shard-2-of-2', 6, 4)]
    """
    if settings.shards is None:
        return {}
    found, chunks = {}, settings.batch // settings.context
    each, more = divmod(batches(settings), settings.shards)
    for number in range(settings.shards):
        first = chunks * (number * each + min(number, more))
        after = chunks * ((number + 1) * each + min(number + 1, more))
        name = f"shard-{number + 1}-of-{settings.shards}"
        found[name] = Shard(name, first, min(after, settings.chunks) - first)
    return found
