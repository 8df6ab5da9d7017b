"""What a recipe says of a generated model: its dimensions, its seed, and the files that ``tiny_model`` makes of them.

Apart from the generator, which needs numpy: Snakemake reads recipes where only Snakemake is installed.
"""

from dataclasses import dataclass

from requant.ground.errors import RecipeError

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
TINY_FILES = (
    "config.json", "generation_config.json", "vocab.json", "merges.txt", "tokenizer_config.json", *SHARDS, INDEX,
)  # fmt: skip

BLOCK = 256
"""Weights per K-quant block: llama-quantize falls back to other types for rows of any other multiple."""


@dataclass(frozen=True)
class TinyShape:
    """Dimensions of a Qwen3 model and the seed of its weights, as a recipe names them.

    Raises:
        RecipeError: naming the key at fault; every quantized row has to be a multiple of 256.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    seed: int

    def __post_init__(self) -> None:
        for key in ("layers", "hidden", "ffn", "heads", "kv_heads", "head_dim"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} is {getattr(self, key)}: give a positive number")
        rows = {"hidden": self.hidden, "ffn": self.ffn, "heads * head_dim": self.heads * self.head_dim}
        for key, width in rows.items():
            if width % BLOCK:
                raise RecipeError(f"{key} is {width}: rows of a quantized tensor must be a multiple of {BLOCK}")
        if self.heads % self.kv_heads:
            raise RecipeError(f"kv_heads is {self.kv_heads}: it must divide heads, which is {self.heads}")
        if self.head_dim % 2:
            raise RecipeError(f"head_dim is {self.head_dim}: rotary positions need an even number")
        if not 0 <= self.seed < 1 << 64:
            raise RecipeError(f"seed is {self.seed}: give a number from 0 to 2**64 - 1")
