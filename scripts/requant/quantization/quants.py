"""The quants that a recipe may name, such as Q4_K_M: their names, how large they get, which need an importance matrix.

llama-quantize calls them file types; ``mix`` has the types of their tensors. Nothing is imported here: Snakemake reads
recipes where only Snakemake is installed.
"""

QUANTS = (
    "Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1", "Q5_K_S",
    "Q5_K_M", "Q6_K", "Q8_0", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S",
    "IQ3_M", "IQ4_NL", "IQ4_XS",
)  # fmt: skip

BITS = {"1": 3.0, "2": 3.6, "3": 4.6, "4": 5.6, "5": 6.4, "6": 7.0, "8": 9.0}
"""Upper bounds in bits per weight by the digit in the name, for disk-space checks only."""


def quant_bytes(weights: int, quant: str) -> int:
    """Upper bound of the size of a quant, for ``weights`` bytes of BF16 weights."""
    digit = next(char for char in quant if char.isdigit())
    return int(weights * BITS[digit] / 16)


def needs_imatrix(quant: str) -> bool:
    """Whether llama-quantize refuses the quant without an importance matrix.

    Its refusal is wider than the need of ggml's own quantizer, ``formats.ggml.NEEDS_IMPORTANCE``: that is about the
    type of one tensor, and of IQ3_XXS it makes something without importances.
    """
    return quant == "Q2_K_S" or quant.startswith(("IQ1", "IQ2", "IQ3_X"))
