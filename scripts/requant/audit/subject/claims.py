"""What a GGUF says about its own making, where nobody else says it: claims, to be checked before they are believed.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and ``tools/quantize/quantize.cpp`` of llama.cpp.
"""

import re
from dataclasses import dataclass

from requant.formats.gguf import Header, quoted
from requant.places.repository import ID
from requant.quantization.file_types import file_type_name

MAX_MODELS = 16
"""Base models that are looked at; merges have several."""
REPOSITORY = re.compile(rf"https?://(?:huggingface\.co|hf\.co)/({ID.pattern})/?", re.ASCII)


@dataclass(frozen=True)
class Named:
    """A model as a GGUF names it; ``repository`` is the id on Hugging Face, if its address is one there."""

    name: str | None = None
    organization: str | None = None
    url: str | None = None

    @property
    def repository(self) -> str | None:
        """``owner/name``."""
        match = REPOSITORY.fullmatch(self.url or "")
        return match[1] if match else None


@dataclass(frozen=True)
class Inferred:
    """What a header says; ``None`` for what it does not say. Texts are as in the file: show them quoted."""

    architecture: str | None
    file_type: int | None
    quantization_version: int | None
    imatrix_file: str | None
    imatrix_dataset: str | None
    imatrix_entries: int | None
    imatrix_chunks: int | None
    base_models: tuple[Named, ...]
    source: Named | None

    @property
    def file_type_name(self) -> str | None:
        """Such as Q4_K_M."""
        return None if self.file_type is None else file_type_name(self.file_type)

    @property
    def sentences(self) -> list[str]:
        """What was inferred, for people."""
        found = []
        if self.file_type_name:
            found.append(f"inferred from general.file_type: quantized as {self.file_type_name}")
        if self.imatrix_file or self.imatrix_entries is not None:
            counts = f"{self.imatrix_entries or 0:,} entries, {self.imatrix_chunks or 0:,} chunks"
            over = f" over {quoted(self.imatrix_dataset)}" if self.imatrix_dataset else ""
            file = quoted(self.imatrix_file or "unnamed")
            found.append(f"inferred from quantize.imatrix: made with the importance matrix {file} ({counts}){over}")
        found += [f"inferred from general.base_model: made from {_described(model)}" for model in self.base_models]
        if self.source:
            found.append(f"inferred from general.source: converted from {_described(self.source)}")
        return found


def infer(header: Header) -> Inferred:
    """Collect what ``header`` says about how its file was made; never fails, whatever it says."""
    count = min(_number(header, "general.base_model.count") or 0, MAX_MODELS)
    models = [_named(header, f"general.base_model.{index}.") for index in range(count)]
    repository = _string(header, "general.source.huggingface.repository")
    source = _named(header, "general.source.")
    if repository and not source.url:
        source = Named(source.name, source.organization, f"https://huggingface.co/{repository}")
    return Inferred(
        architecture=_string(header, "general.architecture"),
        file_type=_number(header, "general.file_type"),
        quantization_version=_number(header, "general.quantization_version"),
        imatrix_file=_string(header, "quantize.imatrix.file"),
        imatrix_dataset=_string(header, "quantize.imatrix.dataset"),
        imatrix_entries=_number(header, "quantize.imatrix.entries_count"),
        imatrix_chunks=_number(header, "quantize.imatrix.chunks_count"),
        base_models=tuple(model for model in models if model != Named()),
        source=source if source != Named() else None,
    )


def _named(header: Header, start: str) -> Named:
    url = _string(header, f"{start}repo_url") or _string(header, f"{start}url")
    return Named(_string(header, f"{start}name"), _string(header, f"{start}organization"), url)


def _described(model: Named) -> str:
    parts = [quoted(part) for part in (model.organization, model.name) if part]
    where = model.repository or model.url
    return " ".join(parts + ([f"at {quoted(where)}"] if where else []))


def _string(header: Header, key: str) -> str | None:
    field = header.metadata.get(key)
    value = field.value if field else None
    if isinstance(value, bytes):
        # llama-quantize cuts texts at 127 bytes, also within a letter.
        value = value.decode(errors="replace")
    return value if isinstance(value, str) and value else None


def _number(header: Header, key: str) -> int | None:
    field = header.metadata.get(key)
    value = field.value if field else None
    return value if type(value) is int and value >= 0 else None
