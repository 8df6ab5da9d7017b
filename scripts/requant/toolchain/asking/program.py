"""What upstream's converter makes of a checkpoint; a program by itself, run in the converter's environment.

    python -m asking.program llama.cpp MODEL

It reads ``request.json`` (name, dtype and shape of every stored tensor; whether heads for further tokens are converted)
and ``values.npz`` (the small tensors, as float32, by their numbers), and writes ``header.gguf`` (all metadata),
``answer.json`` and ``answer.npz``. MODEL is a folder of the checkpoint's small files; there are no weights in it.

Upstream's own model class does the work. First it converts tensors of the real shapes without contents, which gives
names, shapes, types and metadata. Then it converts labels: every stored row is three numbers that stand for it, so each
row of the outcome shows where it came from. What does not come out in such rows is converted again, with a label for
every element. Small tensors have their real values, so what upstream computes of them is its own, and the same in both
runs. Files are strangers': none of their code is run, and time and memory are limited.
"""

import json
import logging
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .answer import Answer
from .labels import FIELDS, Checkpoint
from .packed import FP8, Scales, block_labels

LIMITS = {resource.RLIMIT_CPU: 900, resource.RLIMIT_AS: 32 << 30, resource.RLIMIT_FSIZE: 1 << 31}
"""Seconds of the processor, bytes of address space and of a file that is written."""
WIDEST, WIDE_IN_ALL = 1 << 27, 1 << 31
"""Elements of one stored tensor, and of all, that are labelled one by one."""
FLOATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
PACKED = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "U8": "uint8",
          "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "BOOL": "bool", "F64": "float64"}  # fmt: skip
Keep = Callable[[str, Any, "str | None"], None]
KeepElements = Callable[[str, "list[Any]", str], None]


class Converter:
    """Upstream's class for one model, run over tensors that this program gives it."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, mtp: bool) -> None:
        import gguf

        import conversion

        self._conversion, self._gguf = conversion, gguf
        self._folder, self._checkpoint = folder, checkpoint
        base = conversion.ModelBase
        kind = conversion.get_model_architecture(base.load_hparams(folder, False), conversion.ModelType.TEXT)
        self._class = conversion.get_model_class(kind)
        if self._class.supports_mtp_export and not mtp:
            self._class.no_mtp = True
        self.numbers: dict[str, int] = {}
        self.scales: dict[int, tuple[int, int, int]] = {}

    def _open(self, give: Callable[[int], Any], eager: bool) -> Any:
        """An instance of upstream's class; ``give`` makes the tensor of a number."""

        def index_tensors(model: Any, remote_hf_model_id: str | None = None) -> dict[str, Callable[[], Any]]:
            del remote_hf_model_id
            found: dict[str, Callable[[], Any]] = {}
            for number, each in enumerate(self._checkpoint.stored):
                item = model.filter_tensors((each.name, lambda number=number: give(number)))
                if item:
                    found[item[0]] = item[1]
                    self.numbers[item[0]] = number
            return found

        self._conversion.ModelBase.index_tensors = index_tensors
        kind = self._gguf.LlamaFileType.MOSTLY_BF16
        model = self._class(self._folder, kind, Path("header.gguf"), eager=eager)
        # Some classes choose another one by the config, and leave all to it.
        return getattr(model, "impl", model)

    def describe(self) -> tuple[dict[str, tuple[tuple[int, ...], str]], str | None]:
        """Shape (row length first) and type of every tensor; and why there is no ``header.gguf``, if so."""
        import torch

        lazy = self._conversion.LazyTorchTensor

        def give(number: int) -> Any:
            each = self._checkpoint.stored[number]
            if number in self._checkpoint.values:
                kind = getattr(torch, FLOATS[each.dtype])
                return lazy.from_eager(torch.from_numpy(self._checkpoint.values[number]).to(kind))
            if each.dtype not in FLOATS | PACKED:
                raise UnfollowedError(
                    f"{each.name} is stored as {each.dtype}, which upstream's converter does not read"
                )
            kind = getattr(torch, (FLOATS | PACKED)[each.dtype])
            named = each.name, each.dtype
            return lazy(meta=lazy.meta_with_dtype_and_shape(kind, each.shape), args=named, func=_refuse)

        model = self._open(give, eager=False)
        model.prepare_tensors()
        writer = model.gguf_writer
        found = {
            name: (tuple(reversed([*map(int, info.shape)])), info.dtype.name)
            for part in writer.tensors
            for name, info in part.items()
        }
        if not found:
            raise ValueError("upstream's class makes no tensors of it")
        try:
            model.prepare_metadata(vocab_only=False)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's tokenizer leads to
            return found, _words(error)
        writer.tensors = [{}]
        writer.write_header_to_file(path=Path("header.gguf"))
        writer.write_kv_data_to_file()
        writer.close()
        return found, None

    def find_scales(self) -> None:
        """Find out by what upstream multiplies which FP8: ``scales``."""
        stored = self._checkpoint.stored
        if not any(each.dtype in FP8 for each in stored):
            return
        question = Scales(self._checkpoint)
        model = self._open(question.give, eager=True)
        model.get_tensors = lambda: iter(())
        with suppress(Exception):  # such as what is made of more than the small tensors
            model.prepare_tensors()
        for name, make in model.model_tensors.items():
            number = self.numbers.get(name)
            if number is not None and stored[number].dtype in FP8 and (found := question.of(number, make)):
                self.scales[number] = found

    def convert(self, run: int, wide: set[int], keep: Keep, keep_elements: KeepElements) -> dict[str, str]:
        """Convert labels of rows, or of the elements of tensors in ``wide``. Returns what failed, and why.

        The two functions get every outcome and the tensor it came with: as it is, or in the three parts of its labels.
        """
        import torch

        scales = {scales for scales, _, _ in self.scales.values()}

        def give(number: int) -> Any:
            each = self._checkpoint.stored[number]
            if number in scales:
                return torch.ones((*each.shape[:-1], 1) if len(each.shape) > 1 else each.shape)
            if number in self._checkpoint.values:
                return torch.from_numpy(self._checkpoint.values[number].copy())
            if each.dtype in FLOATS or number in self.scales:
                return torch.from_numpy(self._checkpoint.rows(number, run))
            if (blocks := block_labels(each, run)) is not None:
                return torch.from_numpy(blocks)
            raise UnfollowedError(f"weights stored as {each.dtype} are not followed: name a BF16 GGUF made of them")

        def parts(name: str) -> list[Any] | None:
            number = self.numbers.get(name)
            if number not in wide or number is None:
                return None
            return [torch.from_numpy(self._checkpoint.elements(number, part)) for part in range(len(FIELDS))]

        model = self._open(give, eager=True)
        plain = type(model).get_tensors is self._conversion.ModelBase.get_tensors
        watched = Watched(model, plain, keep, keep_elements, parts)
        try:
            model.prepare_tensors()
        except Exception as error:  # noqa: BLE001 - such as experts that wait for one that failed
            watched.failed.setdefault("", _words(error))
        return watched.failed


class Watched:
    """An instance of upstream's class that goes on where one tensor fails, and hands out what it would write."""

    def __init__(
        self, model: Any, plain: bool, keep: Keep, keep_elements: KeepElements, parts: Callable[[str], list[Any] | None]
    ) -> None:
        self.failed: dict[str, str] = {}
        self._model, self._modify = model, model.modify_tensors
        self._keep, self._keep_elements, self._parts = keep, keep_elements, parts
        self._current: str | None = None
        model.modify_tensors, model.gguf_writer.add_tensor = self.modify_tensors, self.add_tensor
        if plain:
            model.get_tensors = self.get_tensors

    def get_tensors(self) -> Iterator[tuple[str, Any]]:
        """In place of ``ModelBase.get_tensors``."""
        for name, make in self._model.model_tensors.items():
            try:
                made = make()
            except Exception as error:  # noqa: BLE001 - what is packed is computed with, and cannot be
                self.failed[name] = _words(error)
                continue
            yield name, made

    def modify_tensors(self, data: Any, name: str, bid: int | None) -> Iterator[tuple[str, Any]]:
        """Around the class's own."""
        self._current = name
        try:
            if parts := self._parts(name):
                self._modify_parts(parts, name, bid)
                return
            made = list(self._modify(data, name, bid))
        except Exception as error:  # noqa: BLE001 - whatever a class does with rows of three columns
            self.failed[name] = _words(error)
            return
        yield from made

    def _modify_parts(self, parts: list[Any], name: str, bid: int | None) -> None:
        """Upstream does nothing but round what comes out here, and labels are not rounded."""
        made = [list(self._modify(part, name, bid)) for part in parts]
        for outcomes in zip(*made, strict=True):
            self._keep_elements(outcomes[0][0], [each.numpy() for _, each in outcomes], name)

    def add_tensor(self, name: str, tensor: Any, *_: Any, **__: Any) -> None:
        """In place of the writer's."""
        self._keep(name, np.asarray(tensor), self._current)


def ask(folder: Path) -> None:
    """Ask upstream's class, and write down what it says."""
    request = json.loads(Path("request.json").read_text(encoding="utf-8"))
    with np.load("values.npz", allow_pickle=False) as file:
        checkpoint = Checkpoint(request["tensors"], {int(key): file[key] for key in file.files})
    converter = Converter(folder, checkpoint, request["mtp"])
    shapes, unknown = converter.describe()
    answer = Answer(checkpoint, shapes)
    converter.find_scales()
    failed = converter.convert(0, set(), answer.rows, answer.elements)
    bad = {pattern(name) for name in (*failed, *answer.odd)}
    wide, left = set(), WIDE_IN_ALL
    for name, number in converter.numbers.items():
        each = checkpoint.stored[number]
        able = number not in checkpoint.values and (each.dtype in FLOATS or number in converter.scales)
        if pattern(name) in bad and able and 0 < each.size <= min(WIDEST, left):
            wide.add(number)
            left -= each.size
    failed |= converter.convert(1, wide, answer.same, answer.elements)
    scales = converter.scales | answer.scales
    document = {"tensors": answer.document(failed), "scales": scales, "unknown": unknown}
    Path("answer.json").write_text(json.dumps(document), encoding="utf-8")
    np.savez("answer.npz", **answer.arrays)


def pattern(name: str) -> str:
    """A tensor's name in all layers and of all experts."""
    return re.sub(r"\d+", "#", name)


class UnfollowedError(Exception):
    """Its words say what cannot be followed through upstream's classes, and what would help."""


def _words(error: Exception) -> str:
    kind = "" if isinstance(error, UnfollowedError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(str(error).split())[:200]}"


def _refuse(name: str, dtype: str) -> Any:
    raise UnfollowedError(f"upstream computes with {name}, stored as {dtype}: name a BF16 GGUF made of it")


def _guard(tree: Path) -> None:
    """Limits, and nobody else's code: upstream asks transformers for it where a model has some."""
    for kind, limit in LIMITS.items():
        resource.setrlimit(kind, (limit, limit))
    sys.path[:0] = [str(tree), str(tree / "gguf-py")]
    import gguf
    import torch
    import transformers

    torch.set_num_threads(1)
    for name in ("AutoConfig", "AutoTokenizer"):
        kind = getattr(transformers, name)
        loads = kind.from_pretrained

        def load(*arguments: Any, loads: Any = loads, **options: Any) -> Any:
            return loads(*arguments, **options | {"trust_remote_code": False, "local_files_only": True})

        kind.from_pretrained = load
    quantize, plain = gguf.quants.quantize, {gguf.GGMLQuantizationType[name] for name in FLOATS}

    def leave(data: Any, kind: Any) -> Any:
        """Rounding would take labels for weights."""
        return data if kind in plain and not isinstance(data, gguf.LazyNumpyTensor) else quantize(data, kind)

    gguf.quants.quantize = leave  # type: ignore[assignment]


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    _guard(Path(sys.argv[1]))
    import torch

    try:
        with torch.inference_mode():
            ask(Path(sys.argv[2]))
    except UnfollowedError as error:
        raise SystemExit(str(error)) from error
