"""What a quant is: the mix of types, the derivation of its bytes, and witnesses for another compiler's rounding.

For the audit and the pipeline alike. Only the standard library and numpy are imported.
"""

__all__ = ["derivation", "mix", "quantizer", "quants", "verdict", "witnesses"]
