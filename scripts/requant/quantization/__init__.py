"""What a quant is: the mix of types, the derivation of its bytes, witnesses for another compiler's rounding, verdicts.

For the audit and the pipeline alike. Only the standard library and numpy are imported.
"""

__all__ = ["derivation", "mix", "quantizer", "quants", "verdict", "witnesses"]
