"""requant.audit.subject.claims: what a GGUF's header says about its making."""

import pytest

from requant.audit.subject.claims import Named, infer
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from support.relabelled import text
from support.small_checkpoint import SUBJECT, U32, header


def test_what_a_header_says_about_its_making() -> None:
    plain = infer(header(SUBJECT))
    assert (plain.file_type, plain.file_type_name, plain.imatrix_entries, plain.base_models, plain.source) == (
        15,
        "Q4_K_M",
        14,
        (),
        None,
    )
    assert len(plain.sentences) == 2
    rich = infer(header({
        "general.architecture": text("qwen3"), "general.base_model.count": Field(U32, 10**9),
        "general.base_model.0.name": text("Qwen3 4B"), "general.base_model.0.organization": text("Qwen"),
        "general.base_model.0.repo_url": text("https://huggingface.co/Qwen/Qwen3-4B"),
        "general.source.huggingface.repository": text("a/b\x1b"), "quantize.imatrix.file": Field(ValueType.STRING, b"x\xe4"),
        "quantize.imatrix.dataset": text("wiki\n"), "general.file_type": text("15"),
    }))  # fmt: skip
    [base] = rich.base_models
    assert (base.repository, base.name, base.organization) == ("Qwen/Qwen3-4B", "Qwen3 4B", "Qwen")
    assert rich.source is not None and rich.source.repository is None
    assert rich.file_type_name is None and rich.imatrix_file == "x\ufffd"
    assert len(rich.sentences) == 3 and all(sentence.isprintable() for sentence in rich.sentences)
    assert infer(header({})).sentences == []


URLS: dict[str, str | None] = {
    "https://huggingface.co/Qwen/Qwen3-4B": "Qwen/Qwen3-4B",
    "http://hf.co/Qwen/Qwen3-4B/": "Qwen/Qwen3-4B",
    "https://huggingface.co/Qwen/Qwen3-4B/tree/main": None,
    "https://huggingface.co/../..": None,
    "https://huggingface.co/a/b--c": None,
    "https://huggingface.co.example.com/a/b": None,
    "https://modelscope.cn/a/b": None,
}


@pytest.mark.parametrize(("url", "repository"), URLS.items(), ids=list(URLS))
def test_only_an_address_of_a_repository_names_one(url: str, repository: str | None) -> None:
    assert Named(url=url).repository == repository
