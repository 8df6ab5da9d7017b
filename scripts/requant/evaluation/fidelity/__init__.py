"""How much of the BF16 model a quant still is: its predictions, and the error of each tensor."""

__all__ = ["predictions", "tensors"]
