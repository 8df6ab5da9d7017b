"""requant.toolchain.quantizers: each arithmetic has a fingerprint, and a variant that computes so."""

from requant.formats.ggml import Arithmetic
from requant.toolchain.quantizers import FINGERPRINTS
from requant.toolchain.variants import variant


def test_every_arithmetic_can_be_built_and_proven() -> None:
    assert set(FINGERPRINTS) == set(Arithmetic)
    assert len(set(FINGERPRINTS.values())) == len(Arithmetic), "or nobody could tell them apart"
    for arithmetic in Arithmetic:
        assert variant(arithmetic.value).name == arithmetic
        assert arithmetic.other is not arithmetic is arithmetic.other.other
