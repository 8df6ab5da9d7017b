"""requant.ground.text: what people are shown."""

import pytest

from requant.ground.text import did_you_mean

QUANTS = ("Q2_K", "Q4_K_M", "Q5_K_M", "Q8_0")


@pytest.mark.parametrize(
    ("word", "said"),
    {
        "Q4_K_N": " (did you mean Q4_K_M?)",
        "q4_k_m": " (did you mean Q4_K_M?)",
        "q80": " (did you mean Q8_0?)",
        "F32": "",
        "": "",
    }.items(),
)
def test_what_was_almost_right_is_named(word: str, said: str) -> None:
    assert did_you_mean(word, QUANTS) == said
