"""Which files of a repository the converter reads, and transformers in it: what a checkpoint consists of.

``ModelBase.index_tensors`` and ``_try_set_pooling_type`` in ``conversion/base.py`` and ``gguf-py/gguf/vocab.py`` of
llama.cpp 0c1e57098bba, and ``PreTrainedTokenizerBase.from_pretrained`` of transformers. A ``README.md`` is read too,
but for names and tags alone, and it changes more often than the model; whoever wants those in the GGUF adds it.
"""

import re
from collections.abc import Collection

from requant.conversion.metadata import FILES, POOLING
from requant.conversion.templates import is_more
from requant.formats.safetensors import INDEX, SUFFIX
from requant.ground.canonical import parse
from requant.ground.errors import FormatError

DESCRIPTION = "README.md"
ONLY_TRANSFORMERS = ("special_tokens_map.json", "spiece.model", "vocab.txt", "hf_quant_config.json")
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def checkpoint_files(listed: Collection[str]) -> list[str]:
    """Those of a repository's files that make its checkpoint, sorted."""
    return sorted(name for name in listed if _is_text(name, listed) or _is_weights(name, listed))


def shards_of(index: bytes, where: str) -> list[str]:
    """The files that a safetensors index names, sorted; ``where`` is how errors name it.

    Raises:
        FormatError: when it is no index.
    """
    document = parse(index, where)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise FormatError(f"{where} has no weight_map that gives each tensor a file: it is damaged, or no index")
    return sorted(set(places.values()))


def _is_text(name: str, listed: Collection[str]) -> bool:
    if name in FILES or name in ONLY_TRANSFORMERS:
        return name != DESCRIPTION
    pooling = "modules.json" in listed and POOLING.fullmatch(name) is not None
    return pooling or is_more(name) or ("/" not in name and name.endswith(".tiktoken"))


def _is_weights(name: str, listed: Collection[str]) -> bool:
    """With an index its shards, which are told by their names here; without one all that begins with model."""
    if INDEX in listed:
        return name == INDEX or SHARD.fullmatch(name) is not None
    return "/" not in name and name.startswith("model") and name.endswith(SUFFIX)
