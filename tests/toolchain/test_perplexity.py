"""What llama-perplexity says: numbers are taken as they stand, and what is missing or not finite is an error."""

from __future__ import annotations

import pytest

from requant.ground.errors import FormatError
from requant.toolchain.perplexity import chunk_done, logits_bytes, read_divergence, read_perplexity, scored

SAID = """
   2    166137.1209 ± 2468.6611      -0.00018 ±    0.00369       0.00451 ±    0.00004     0.000 ±  0.000 %    73.922 ±  1.946 %

====== Perplexity statistics ======
Mean PPL(Q)                   : 166137.120924 ± 2468.661140
Mean PPL(base)                : 166166.422612 ± 2484.412537
Cor(ln(PPL(Q)), ln(PPL(base))):  96.94%
Mean ln(PPL(Q)/PPL(base))     :  -0.000176 ±   0.003687
Mean PPL(Q)/PPL(base)         :   0.999824 ±   0.003687
Mean PPL(Q)-PPL(base)         : -29.301687 ± 612.685090

====== KL divergence statistics ======
Mean    KLD:   0.004510 ±   0.000042
Maximum KLD:   0.008226
99.9%   KLD:   0.008061
99.0%   KLD:   0.007420
95.0%   KLD:   0.006216
90.0%   KLD:   0.005821
Median  KLD:   0.004317
10.0%   KLD:   0.003422
 5.0%   KLD:   0.003156
 1.0%   KLD:   0.002785
 0.1%   KLD:   0.002324
Minimum KLD:   0.001993

====== Token probability statistics ======
Mean    Δp: -0.000 ± 0.000 %
Maximum Δp:  0.000%
RMS Δp    :  0.000 ± 0.000 %
Same top p: 73.922 ± 1.946 %
""".splitlines()
"""The demo's quant on two chunks."""


def test_the_estimate() -> None:
    line = "0.03.498.466 I Final estimate: PPL = 166166.7315 +/- 2484.40526"
    assert read_perplexity(["x", line], "m") == {"value": "166166.7315", "error": "2484.40526"}


def test_the_divergence() -> None:
    perplexity, divergence = read_divergence(SAID, "m")
    assert perplexity == {"value": "166137.120924", "error": "2468.661140"}
    assert divergence["mean"] == {"value": "0.004510", "error": "0.000042"}
    assert divergence["ratio"] == {"value": "0.999824", "error": "0.003687"}
    assert divergence["same_top"] == {"value": "73.922", "error": "1.946"}
    assert divergence["rms_dp"] == {"value": "0.000", "error": "0.000"}
    quantiles = [float(value) for value in divergence["quantiles"].values()]
    assert len(quantiles) == 11
    names = ["min", "q0.1", "q1", "q5", "q10", "q50", "q90", "q95", "q99", "q99.9", "max"]
    assert sorted(quantiles) == [float(divergence["quantiles"][name]) for name in names]


@pytest.mark.parametrize("number", range(len(SAID)))
def test_a_missing_line_is_named_or_not_needed(number: int) -> None:
    rest = [line for index, line in enumerate(SAID) if index != number]
    needed = ("KLD:", "Mean PPL(Q)  ", "PPL(Q)/PPL(base)  ", "RMS", "Same")
    if any(word in SAID[number] for word in needed) and "ln(" not in SAID[number]:
        with pytest.raises(FormatError, match=r"llama-perplexity gave no .* for m: its log says why"):
            read_divergence(rest, "m")
    else:
        assert read_divergence(rest, "m") == read_divergence(SAID, "m")


@pytest.mark.parametrize("bad", ["nan", "inf", "-nan"])
def test_what_is_not_finite_is_refused(bad: str) -> None:
    with pytest.raises(FormatError, match=f"the perplexity of m is {bad}: the model or the text is broken"):
        read_perplexity([f"Final estimate: PPL = {bad} +/- 0.1"], "m")
    broken = [line.replace("0.004510", bad) for line in SAID]
    with pytest.raises(FormatError, match="Mean KLD of m is"):
        read_divergence(broken, "m")


def test_nothing_said() -> None:
    with pytest.raises(FormatError, match="gave no estimate for m"):
        read_perplexity(["Final estimate: later"], "m")


def test_progress() -> None:
    assert chunk_done("[1]165514.7734,[2]166166.7315,") == 2
    assert chunk_done("   7    162612.1979 ± 3689.8126      -0.01769 ±    0.00534") == 7
    assert chunk_done("0.00.540.847 I perplexity: calculating perplexity over 2 chunks") is None


def test_the_size_of_the_logits() -> None:
    """Measured: two chunks of 512 tokens of a vocabulary of 151,936."""
    assert scored(512) == 255
    assert logits_bytes(2, 512, 151936) == 154982916
