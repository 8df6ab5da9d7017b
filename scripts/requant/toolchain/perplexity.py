"""What ``llama-perplexity`` says: perplexity, and how far predictions diverge from those of the BF16 model.

Formats: llama.cpp's ``tools/perplexity/perplexity.cpp``. Only the second half of each chunk is scored, so that every
scored token has a context. Numbers stay the decimal texts that the tool prints.
"""

import re
from collections.abc import Iterable
from typing import Any

from requant.ground.errors import FormatError

NUMBER = r"(-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|nan|inf))"
ESTIMATE = re.compile(rf"Final estimate: PPL = {NUMBER} \+/- {NUMBER}")
LINE = re.compile(rf"^(.+?)\s*: +{NUMBER}(?: ± +{NUMBER})? ?%?$")
FEWEST = 100
"""Scored tokens of which the tool tells quantiles at all."""
CHUNK = re.compile(r"\[(\d+)\]-?(?:\d|nan|inf)|^ +(\d+) +-?(?:\d|nan|inf)")
WITH_ERROR = {
    "Mean PPL(Q)": "perplexity",
    "Mean PPL(Q)/PPL(base)": "ratio",
    "Mean KLD": "mean",
    "RMS Δp": "rms_dp",
    "Same top p": "same_top",
}
"""The tool's names of means with their standard errors, and ours; the last two are percentages."""
QUANTILES = {
    "Minimum KLD": "min", "0.1% KLD": "q0.1", "1.0% KLD": "q1", "5.0% KLD": "q5", "10.0% KLD": "q10",
    "Median KLD": "q50", "90.0% KLD": "q90", "95.0% KLD": "q95", "99.0% KLD": "q99", "99.9% KLD": "q99.9",
    "Maximum KLD": "max",
}  # fmt: skip


def logits_bytes(chunks: int, context: int, vocabulary: int) -> int:
    """Size of the file that ``--save-all-logits`` writes: 16-bit logarithms of all probabilities of scored tokens."""
    padded = 2 * ((vocabulary + 1) // 2) + 4
    return 20 + chunks * context * 4 + chunks * scored(context) * padded * 2


def scored(context: int) -> int:
    """Tokens of one chunk whose prediction is scored."""
    return context - 1 - context // 2


def chunk_done(line: str) -> int | None:
    """The number of the chunk that a line of output reports last, if it reports one."""
    found = list(CHUNK.finditer(line))
    return int(found[-1][1] or found[-1][2]) if found else None


def read_perplexity(lines: Iterable[str], name: str) -> dict[str, str]:
    """Perplexity and its standard error from a run that saved logits, as ``value`` and ``error``.

    Raises:
        FormatError: naming the model, when there is no result or it is not finite.
    """
    for line in lines:
        if match := ESTIMATE.search(line):
            return _measured(match[1], match[2], f"the perplexity of {name}")
    raise FormatError(f"llama-perplexity gave no estimate for {name}: its log says why")


def read_divergence(lines: Iterable[str], name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Perplexity as above, and the divergence from a run with ``--kl-divergence``.

    The divergence holds ``mean`` (KLD in nats), ``ratio`` (of perplexities), ``same_top`` and ``rms_dp`` (in percent)
    with their errors, and ``quantiles`` of the KLD over all scored tokens.

    Raises:
        FormatError: naming the model and what is missing or not finite.
    """
    means: dict[str, dict[str, str]] = {}
    quantiles: dict[str, str] = {}
    for line in lines:
        match = LINE.match(line.strip())
        key = " ".join(match[1].split()) if match else ""
        if match and key in WITH_ERROR and match[3]:
            means[WITH_ERROR[key]] = _measured(match[2], match[3], f"{key} of {name}")
        elif match and key in QUANTILES:
            quantiles[QUANTILES[key]] = _finite(match[2], f"{key} of {name}")
    missing = [*(WITH_ERROR.values() - means.keys()), *(QUANTILES.values() - quantiles.keys())]
    if missing:
        raise FormatError(f"llama-perplexity gave no {sorted(missing)[0]} for {name}: its log says why")
    return means.pop("perplexity"), {**means, "quantiles": quantiles}


def _measured(value: str, error: str, what: str) -> dict[str, str]:
    return {"value": _finite(value, what), "error": _finite(error, what)}


def _finite(number: str, what: str) -> str:
    if "n" in number:
        raise FormatError(f"{what} is {number}: the model or the text is broken")
    return number
