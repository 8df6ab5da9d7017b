"""Pickles, in which weights were published before safetensors: reading one can run code, so none is ever opened."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""How their names end."""


def is_pickle(name: str) -> bool:
    """Whether a file is one, by its name."""
    return name.lower().endswith(PICKLES)
