"""What a quant is: types, the derivation of its bytes, what its quants say without importances, witnesses, verdicts.

For the audit and the pipeline alike. Only the standard library and numpy are imported.
"""

__all__ = [
    "consistency",
    "derivation",
    "file_types",
    "mix",
    "quantizer",
    "quants",
    "recovery",
    "tensor_kinds",
    "verdict",
    "witnesses",
]
