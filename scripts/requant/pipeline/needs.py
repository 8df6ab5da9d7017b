"""What each step asks of a cluster: memory, and time on its threads, from the size of the model and measured rates.

A limit is no forecast. Too small a one kills a step that took hours, too large a one waits longer in the queue, so each
is an upper bound, and a step that is tried again gets twice as much. The rates are those of two cores of an AMD EPYC
with the shape of Qwen3-4B (docs/benchmarks-full-size.md); how other sizes follow from them is said at each.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from requant.pipeline import layout
from requant.pipeline.recipe import Recipe
from requant.pipeline.settings import Calibration, Fidelity
from requant.pipeline.shards import split
from requant.pipeline.tiny_shape import TinyShape
from requant.quantization.quants import quant_bytes

GB, MB = 10**9, 10**6
INFERENCE = 442.0 / (10 * 512 * 8.05)
"""Processor seconds for a token and a GB of BF16 weights: ``calibrate``, the slowest step that only reads tokens.

All weights are counted, though a model with experts multiplies by a tenth of them only.
"""
ANSWER = 0.065
"""Seconds for a token that is written, and a GB that is read for it: ``measure_speed``, 15 GB/s, which is memory."""
TENSORS = 11.0
"""Processor seconds to take a GB of BF16 weights apart in Python: upstream's converter; our own steps take a fifth."""
QUANTIZE, QUANTIZE_GRID = 500 / 8, 500 / 1
"""Processor seconds for a GB, 500 M weights: llama.cpp without lanes does 8 M a second, and 1 M of the grid types
IQ1 to IQ3 (docs/how-it-works.md).
"""
BUILD = 3600.0
"""Processor seconds for a build: the CUDA backend, the longest one (docs/cuda-build.md)."""
DISK = 100 * MB
"""Bytes a second of a slow shared file system. Assumed, not measured."""
START, SLACK = 600, 2
"""Seconds that every limit starts with, for a busy file system; and how many times what was computed is allowed."""
RUNNING = 1500 * MB
"""Python, a tool's buffers and the logits of a batch; 0.7 GB were measured beside the weights."""
WIDENED = 3.4
"""A tensor that llama-quantize works on: BF16, as float32 and quantized, as a multiple of its BF16 bytes."""
REPACKED = 2
"""The CPU backend lays quantized weights out anew: two copies."""
CONTEXT = 330_000
"""Bytes of keys and values for a token of context: those of a Llama of 70 B, 80 layers of 8 heads of 128 in F16."""
COMPILER = 1 * GB
"""Memory of a compiler; one runs on each thread."""
DAY = 86400
VOCABULARY = 151_936
"""Rows of a generated model's embedding, which is also its output."""


@dataclass(frozen=True)
class Need:
    """What a step needs: ``memory`` in bytes, ``processor`` seconds that threads share, ``seconds`` that none shortens,
    bytes ``moved`` from and to the disk, and ``each`` thread's own bytes of memory.
    """

    memory: float = RUNNING
    processor: float = 0
    seconds: float = 0
    moved: float = 0
    each: float = 0

    def mem_mb(self, threads: int) -> int:
        """The limit of memory, in MB."""
        return math.ceil((self.memory + self.each * threads) / MB)

    def minutes(self, threads: int) -> int:
        """The limit of time on so many threads."""
        computed = self.processor / threads + self.seconds + self.moved / DISK
        return math.ceil((START + SLACK * computed) / 60)


def model_bytes(recipe: Recipe) -> tuple[int, int] | None:
    """Bytes of the BF16 GGUF, and of its largest tensor, from the pin or the record of what was fetched.

    ``None`` before the fetch of what is pinned without sizes. Checkpoints are taken to be BF16, as nearly all are. A
    tensor lies in one file; the experts of a layer, which become one tensor, are no larger in the models looked at.
    """
    if recipe.generate is not None:
        shape = TinyShape(**recipe.generate)
        embedding = 2 * VOCABULARY * shape.hidden
        attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
        return embedding + 2 * shape.layers * (attention + 3 * shape.hidden * shape.ffn), embedding
    assert recipe.model
    pinned = {name: known.size for name, known in recipe.model.files.items()}
    record = Path(layout.source(recipe.model_name), "source.json")
    if None in pinned.values():
        try:
            # By hand, as rules are read where numpy is missing; what is damaged the step says that reads it next.
            pinned = {str(entry["name"]): int(entry["size"]) for entry in json.loads(record.read_bytes())["files"]}
        except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return None
    sizes = [(size or 0) * _widths(name) for name, size in pinned.items()]
    return sum(sizes), max(sizes, default=0)


def _widths(name: str) -> int:
    """How many times its bytes a file has as BF16, at most: one that is called Q4_0 holds 4 bits a weight or more.

    >>> [_widths(name) for name in ("m-Q4_0.gguf", "m.iq1_s.gguf", "m-mxfp4.gguf", "m-BF16.gguf", "model.safetensors")]
    [4, 16, 4, 1, 1]
    """
    found = re.search(r"(?:Q|FP)([1-8])(?![0-9])", name, re.IGNORECASE) if name.lower().endswith(".gguf") else None
    return -(-16 // int(found[1])) if found else 1


class Needs:
    """The needs of a recipe's steps, by the names of their rules."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def of(self, step: str, quant: str | None = None) -> Need | None:
        """What a step needs; ``quant`` is what it works on, ``BF16`` or nothing the model.

        ``None`` while nothing is known of the model's size.
        """
        if step in ("build_tool", "build_backend"):
            return Need(processor=BUILD, each=COMPILER)
        if (model := model_bytes(self.recipe)) is None:
            return None
        weights, tensor = model
        subject = weights if quant in (None, "BF16") else quant_bytes(weights, str(quant))
        return STEPS[step](_Job(self.recipe, weights, tensor, subject, quant))


@dataclass(frozen=True)
class _Job:
    """A step on a model of so many bytes of ``weights``, whose file that it works on has the bytes of ``subject``."""

    recipe: Recipe
    weights: int
    tensor: int
    subject: int
    quant: str | None

    @property
    def loaded(self) -> float:
        """The memory of the loaded subject."""
        return RUNNING + 1.05 * self.subject * (1 if self.subject == self.weights else REPACKED)

    @property
    def served(self) -> float:
        """The same with the context of the card's chat."""
        return self.loaded + CONTEXT * float(self.recipe.card["chat"]["context"])

    def generate(self) -> Need:
        return Need(RUNNING + 6 * self.tensor, TENSORS * self.weights / GB, moved=self.weights)

    def convert(self) -> Need:
        return Need(self._tensors, TENSORS * self.weights / GB, moved=2 * self.weights)

    def quantize(self) -> Need:
        rate = QUANTIZE_GRID if re.match("IQ[123]", str(self.quant)) else QUANTIZE
        return Need(self._tensors, rate * self.weights / GB, moved=self.weights + self.subject)

    def compare(self) -> Need:
        return Need(self._tensors, TENSORS * self.weights / GB, moved=self.weights + self.subject)

    def calibrate(self) -> Need:
        """The whole, or the largest of its shards."""
        asked = self.recipe.calibration
        chunks = max((shard.chunks for shard in split(asked).values()), default=asked.chunks)
        return self._read(replace(asked, chunks=chunks))

    def measure(self) -> Need:
        return self._read(self.recipe.evaluation.fidelity)

    def speed(self) -> Need:
        """All models one after the other, by llama-bench and by the server, with a round to warm up."""
        asked = self.recipe.evaluation.speed
        if asked is None:
            return Need()
        files = [self.weights, *(quant_bytes(self.weights, quant) for quant in self.recipe.quants)]
        rounds = 2 * (asked.rounds + 1)
        read = rounds * asked.prompt * len(files) * INFERENCE * self.weights / GB
        written = rounds * asked.generate * ANSWER * sum(files) / GB
        return Need(self.served, read, written, moved=2 * sum(files))

    def behave(self) -> Need:
        """A day: how long answers get is not known. Those that are there are kept, and the next try goes on."""
        return Need(self.served, seconds=(DAY - START) / SLACK)

    def answer(self) -> Need:
        return Need(self.loaded, INFERENCE * 1024 * self.weights / GB, 1024 * ANSWER * self.subject / GB, self.subject)

    def copy(self) -> Need:
        return Need(moved=2 * max(self._quants))

    def hash(self) -> Need:
        return Need(moved=sum(self._quants))

    def rebuild(self) -> Need:
        """A whole run in one job: its largest step's memory, and the time of all, with two builds."""
        quants = [replace(self, subject=quant_bytes(self.weights, quant), quant=quant) for quant in self.recipe.quants]
        whole, parts = self._read(self.recipe.calibration), max(1, len(split(self.recipe.calibration)))
        # Each shard loads the model.
        calibrate = replace(whole, moved=parts * whole.moved)
        steps = [self.convert(), calibrate, *(job.quantize() for job in quants), self.copy(), self.hash()]
        return Need(
            max(step.memory for step in steps),
            sum(step.processor for step in steps) + 2 * BUILD,
            moved=sum(step.moved for step in steps) + 2 * self.weights,
            each=COMPILER,
        )

    @property
    def _tensors(self) -> float:
        return RUNNING + WIDENED * self.tensor

    @property
    def _quants(self) -> list[int]:
        return [quant_bytes(self.weights, quant) for quant in self.recipe.quants]

    def _read(self, asked: Calibration | Fidelity | None) -> Need:
        tokens = asked.chunks * asked.context if asked else 0
        # The predictions of the second half of each chunk, 16 bits each; a calibration keeps none.
        kept = tokens * VOCABULARY if isinstance(asked, Fidelity) else 0
        return Need(self.loaded, tokens * INFERENCE * self.weights / GB, moved=self.subject + kept)


STEPS: Mapping[str, Callable[[_Job], Need]] = {
    "generate_model": _Job.generate,
    "convert_checkpoint": _Job.convert,
    "expand_gguf": _Job.convert,
    "calibrate": _Job.calibrate,
    "quantize": _Job.quantize,
    "quantize_plain": _Job.quantize,
    "measure_baseline": _Job.measure,
    "measure_quant": _Job.measure,
    "measure_tensors": _Job.compare,
    "measure_speed": _Job.speed,
    "measure_behaviour": _Job.behave,
    "answer_question": _Job.answer,
    "place_quant": _Job.copy,
    "place_imatrix": _Job.copy,
    "write_sums": _Job.hash,
    "rebuild": _Job.rebuild,
}
"""The rules whose needs follow from the model's size; builds follow from none, and all others run beside Snakemake."""
