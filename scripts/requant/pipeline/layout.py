"""Where a run puts what it makes: paths below ``results``, as text relative to the working folder, as Snakemake has it.

Rules call these folders by their pathvars, as in ``<results>/quants``; nobody else spells a path below ``results``.
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePath

from requant.documents.file_names import BILL_OF_MATERIALS, CARD, EVALUATION, IMATRIX, MANIFEST, SUMS
from requant.toolchain.variants import STRICT

RESULTS = "results"
TOOLCHAINS = f"{RESULTS}/toolchains"
SUITES = f"{RESULTS}/suites"
SHARED = ("toolchains", "suites")
"""What all recipes share, beside their own folders."""
LOCK = f"{RESULTS}/.lock"


def results(name: str) -> str:
    """The folder of a recipe."""
    return f"{RESULTS}/{name}"


def source(model: str) -> str:
    """The weights of the model ``model``, as they came."""
    return f"{results(model)}/source"


def generated(model: str) -> str:
    """The weights of the model ``model``, where they are random."""
    return f"{results(model)}/generated"


def bf16(model: str) -> str:
    """The weights of the model ``model``, converted."""
    return f"{results(model)}/bf16"


def corpus(name: str, model: str, texts: Sequence[str]) -> str:
    """The texts of the recipe ``name``; under another ``model``'s name, those of all its recipes with equal ``texts``.

    >>> corpus("Tiny", "Tiny", ["docs", "train", "test"]), corpus("Tiny-b", "Tiny", ["docs", "train", "test"])
    ('results/Tiny/corpus', 'results/Tiny/corpora/2b00df320dd4')
    """
    if name == model:
        return f"{results(name)}/corpus"
    return f"{results(model)}/corpora/{hashlib.sha256(repr([*texts]).encode()).hexdigest()[:12]}"


def release(name: str) -> str:
    """The folder that gets published."""
    return f"{results(name)}/release"


def published(folder: str) -> str:
    """Where a release lies on hubs: a file beside its folder, ``results/<name>/published.json`` where it was made.

    >>> published("results/Tiny/release"), published("/a/Tiny-GGUF")
    ('results/Tiny/published.json', '/a/Tiny-GGUF.published.json')
    """
    path = PurePath(folder)
    return str(path.with_name("published.json" if path.name == "release" else f"{path.name}.published.json"))


def page(name: str) -> str:
    """The report for people."""
    return f"{results(name)}/report.html"


def benchmarks(folder: str) -> str:
    """Snakemake's measurements of the rules that work in a recipe's folder or a toolchain's."""
    return f"{folder}/benchmarks"


def logs(folder: str) -> str:
    """What the rules say that work in a recipe's folder or a toolchain's."""
    return f"{folder}/logs"


def toolchain(name: str) -> str:
    """The folder of a llama.cpp: its tree, the strict tools and the variants that are built of it."""
    return f"{TOOLCHAINS}/{name}"


def tool(name: str, program: str) -> str:
    """The build record of a strict program, such as llama-quantize, of the toolchain ``name``."""
    return f"{toolchain(name)}/{STRICT}/bin/{program}.json"


def backend(name: str, variant: str) -> str:
    """The build record of an inference backend of the toolchain ``name``."""
    return f"{toolchain(name)}/{variant}/build.json"


def answers(name: str, label: str) -> str:
    """The folder of what a model answered, suite by suite; ``label`` is the model's in the evaluation, such as BF16."""
    return f"{results(name)}/evaluation/behaviour/{label}"


def quant_file(name: str, quant: str) -> str:
    """What a released quant is called; llama.cpp takes none for a model that has ``imatrix`` in its name."""
    return f"{name}-{quant}.gguf"


def plain_file(name: str, quant: str) -> str:
    """What the same quant without importance matrix is called, which is measured beside it and not released."""
    return f"{name}-{quant}-plain.gguf"


def release_files(name: str, quants: tuple[str, ...], evaluated: bool, billed: bool) -> list[str]:
    """What the files of a release are called; a recipe says whether it is ``evaluated`` and has a bill of materials."""
    more = [*([EVALUATION] if evaluated else ()), *([BILL_OF_MATERIALS] if billed else ())]
    return [*(quant_file(name, quant) for quant in quants), IMATRIX, MANIFEST, CARD, SUMS, *more]
