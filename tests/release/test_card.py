"""The model card: complete, the same in both languages, and safe whatever the recipe says."""

import copy
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from requant.formats.ggml import GGMLType
from requant.ground.canonical import canonical
from requant.release.card import write_card
from requant.release.folder import build_manifest
from support.measured import evaluation

Manifest = dict[str, Any]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def entry(name: str, size: int) -> dict[str, Any]:
    return {"name": name, "size": size, "sha256": sha(name)}


def tensors(kinds: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind, "shape": shape, "sha256": sha(name)} for name, (kind, shape) in kinds.items()]


def recipe(name: str, model: dict[str, Any], quants: list[str], thinking: str, base_model: str) -> dict[str, Any]:
    return {
        "recipe": 1,
        "name": name,
        "model": model,
        "quants": quants,
        "card": {
            "publisher": "somebody",
            "base_model": base_model,
            "languages": ["zh", "en"],
            "summary": {"zh": "一个模型。", "en": "A model."},
            "chat": {"context": 32768, "thinking": thinking},
            "vendor_benchmarks": {"source": "https://example.org/card", "rows": [{"name": "AIME25", "score": "81.3"}]},
        },
    }


def manifest(
    document: dict[str, Any],
    weights: dict[str, Any],
    corpus: dict[str, Any],
    *,
    arithmetic: str = "native",
    expanded_from: str | None = None,
    fallbacks: list[dict[str, Any]] | None = None,
) -> Manifest:
    name = document["name"]
    toolchain = {"name": "llama.cpp-0", "commit": "c" * 40, "tree": "d" * 40, "sdist": {
        "project": "llama-cpp-python", "version": "0.3.36", "size": 76589250, "sha256": sha("sdist")}}  # fmt: skip
    variants = [{"variant": variant, "definitions": {"GGML_CPU": "OFF"}, "flags": [f"-f{variant}"], "own_code": [entry("math.c", 9)] if variant == "portable" else [], "host": "here"}
                for variant in ("strict", arithmetic)]  # fmt: skip
    plain = {"token_embd.weight": ("BF16", [256, 512]), "output_norm.weight": ("F32", [256])}
    model = {
        "step": {"name": "convert", "command": ["python", "convert.py", name, "--outtype", "bf16"]},
        "file": entry("model.gguf", 8_045_330_432),
        "architecture": "qwen3",
        "expanded_from": expanded_from,
        "tensors": tensors(plain),
    }
    imatrix = {
        "step": {"name": "calibrate", "command": ["llama-imatrix", "-m", "model.gguf", "-t", "{threads}"]},
        "file": entry("imatrix.gguf", 3_873_216),
        "arithmetic": arithmetic,
        "settings": {"arithmetic": arithmetic},
        "features": ["AVX2", "FMA"],
        "chunks": 123,
        "chunk_size": 512,
        "entries": 252,
    }
    quants = [{
        "step": {"name": f"quantize {kind}", "command": ["llama-quantize", "model.gguf", kind, "{threads}"]},
        "file": entry(f"{name}-{kind}-imatrix.gguf", 2_497_281_152 + number),
        "type": kind,
        "fallbacks": fallbacks or [],
        "tensors": tensors(plain | {"token_embd.weight": ("Q4_K", [256, 512])}),
    } for number, kind in enumerate(document["quants"])]  # fmt: skip
    inputs = {"model": weights, "corpus": corpus, "toolchain": toolchain}
    return build_manifest(document, inputs, variants, model, imatrix, quants)


WIKITEXT = {
    "name": "wikitext-2-raw", "repo": "Salesforce/wikitext", "config": "wikitext-2-raw-v1", "revision": "b" * 40,
    "licence": "CC-BY-SA-3.0 AND GFDL-1.3-or-later", "files": [entry("train.parquet", 6357543)],
    "texts": {"calibration": entry("wiki.train.raw", 10940747), "evaluation": entry("wiki.test.raw", 1290590)},
}  # fmt: skip
DOCS = {
    "name": "llama.cpp-docs", "repo": None, "config": None, "revision": None, "licence": "MIT", "files": [],
    "texts": {"calibration": entry("docs.train.txt", 371586), "evaluation": entry("docs.test.txt", 44017)},
}  # fmt: skip


def hub_model() -> Manifest:
    weights = {"name": "Big", "repo": "Org/Big", "revision": "a" * 40, "licence": "Apache-2.0", "package": None,
               "files": [entry("config.json", 727), entry("model.safetensors", 8_044_982_000)]}  # fmt: skip
    document = recipe("Big-2507", {"pin": "Big"}, ["Q4_K_M", "Q6_K"], "always", "Org/Big")
    return manifest(document, weights, WIKITEXT, arithmetic="cuda-sm121")


def generated_model() -> Manifest:
    shape = {"layers": 4, "hidden": 256, "seed": 2507}
    weights = {"name": "Tiny", "generate": shape, "licence": "MIT", "repo": None, "revision": None, "package": None,
               "files": [entry("model-00001-of-00001.safetensors", 84_000_000)]}  # fmt: skip
    document = recipe("Tiny", {"generate": shape}, ["Q4_K_M"], "optional", "none")
    document["card"]["vendor_benchmarks"] = {"source": "none", "rows": []}
    return manifest(document, weights, DOCS, arithmetic="portable")


def packaged_model() -> Manifest:
    package = {"project": "llm-small", "version": "0.1.2", "size": 92871040, "sha256": sha("wheel")}
    weights = {"name": "Small", "repo": "Org/Small", "revision": None, "licence": "LicenseRef-Own", "package": package,
               "files": [entry("Small.Q4_1.gguf", 98362432)]}  # fmt: skip
    document = recipe("Small", {"pin": "Small"}, ["Q4_K_M"], "none", "Org/Small")
    blocks = [*range(30), 31]
    fallbacks = [{"name": f"blk.{block}.attn_q.weight", "type": "Q5_0", "row": 576} for block in blocks]
    fallbacks.append({"name": "token_embd.weight", "type": "Q8_0", "row": 576})
    return manifest(document, weights, DOCS, expanded_from="Q4_1, Q6_K", fallbacks=fallbacks)


KINDS = [hub_model, generated_model, packaged_model]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., str]:
    def write(document: Manifest, measured: dict[str, Any] | None = None) -> str:
        (tmp_path / "manifest.json").write_bytes(canonical(document))
        (tmp_path / "evaluation.json").write_bytes(canonical(measured))
        evaluation = tmp_path / "evaluation.json" if measured else None
        write_card(tmp_path / "manifest.json", evaluation, tmp_path / "README.md")
        return (tmp_path / "README.md").read_bytes().decode()

    return write


def halves(card: str) -> list[str]:
    _, chinese, english = re.split(r"^## (?:中文|English)$", card, flags=re.MULTILINE)
    return [chinese, english]


def tables(card: str) -> list[list[list[str]]]:
    """Rows of cells of every table, as a Markdown reader sees them."""
    found: list[list[list[str]]] = []
    inside = False
    for token in markdown(card):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            inside = True
        elif inside and token.type == "inline":
            found[-1][-1].append(token.content)
            inside = False
    return found


def markdown(card: str) -> list[Any]:
    return (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(ModelCard(card, ignore_metadata_errors=False).text)
    )


def file_entries(value: Any) -> list[dict[str, Any]]:
    """Every file that the manifest describes outside the steps."""
    if isinstance(value, list):
        return [found for item in value for found in file_entries(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if {"name", "size", "sha256"} <= set(value) else []
    return own + [found for key, item in value.items() if key != "steps" for found in file_entries(item)]


def test_front_matter_of_a_hub_model(render: Callable[[Manifest], str]) -> None:
    data = ModelCard(render(hub_model()), ignore_metadata_errors=False).data.to_dict()
    assert data == {
        "license": "apache-2.0",
        "base_model": "Org/Big",
        "base_model_relation": "quantized",
        "quantized_by": "somebody",
        "pipeline_tag": "text-generation",
        "library_name": "gguf",
        "language": ["zh", "en"],
        "tags": ["gguf", "imatrix", "llama.cpp", "qwen3", "Q4_K_M", "Q6_K"],
        "datasets": ["Salesforce/wikitext"],
        "tasks": ["text-generation"],
        "frameworks": ["gguf"],
    }


def test_front_matter_without_base_model_or_data_set(render: Callable[[Manifest], str]) -> None:
    data = ModelCard(render(generated_model()), ignore_metadata_errors=False).data.to_dict()
    assert not {"base_model", "base_model_relation", "datasets", "model-index"} & set(data)
    assert data["license"] == "mit"


def test_a_licence_unknown_to_the_hub_is_other(render: Callable[[Manifest], str]) -> None:
    data = ModelCard(render(packaged_model()), ignore_metadata_errors=False).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "licenseref-own")
    assert data["license_link"] == "https://huggingface.co/Org/Small"


@every_kind
def test_both_halves_hold_every_file_and_number(
    kind: Callable[[], Manifest], render: Callable[[Manifest], str]
) -> None:
    document = kind()
    found = file_entries({**document["inputs"], "bf16": document["model"]["file"], "imatrix": document["imatrix"]["file"],
                          "quants": [quant["file"] for quant in document["quants"]]})  # fmt: skip
    assert len(found) >= 6
    facts = [text for file in found for text in (f"{file['size']:,} B", file["sha256"])]
    facts += [file["name"] for file in found if file["name"] != "model.gguf"]
    facts += ["123", "512", "62,976", "252", document["recipe"]["sha256"], "c" * 40, "d" * 40, sha("sdist")]
    facts += ["-fstrict", "llama-imatrix -m model.gguf -t {threads}", "32768", "8,192"]
    for half in halves(render(document)):
        assert [fact for fact in facts if fact not in half] == []


@every_kind
def test_same_bytes_every_time(kind: Callable[[], Manifest], render: Callable[[Manifest], str]) -> None:
    card = render(kind())
    assert card == render(kind())
    assert card.endswith("\n") and not card.endswith("\n\n")
    assert "\r" not in card and not re.search(r"\{[{%#]", card)


@every_kind
def test_tables_are_well_formed_and_alike(kind: Callable[[], Manifest], render: Callable[[Manifest], str]) -> None:
    card = render(kind())
    chinese, english = ([[len(row) for row in table] for table in tables(half)] for half in halves(card))
    assert chinese == english
    assert all(len(set(widths)) == 1 for widths in english)
    # Every line that looks like a row is one: none was cut off by a blank line or a stray pipe.
    text = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|-")]
    assert len(rows) == sum(map(len, tables(card)))
    assert all(not line.startswith("|-") or set(line) == {"|", "-"} for line in text.splitlines())


def test_bits_per_weight(render: Callable[[Manifest], str]) -> None:
    size = 256 * 512 // 256 * GGMLType.Q4_K.type_size + 256 * 4
    assert f"{8 * size / (256 * 512 + 256):.2f} bits per weight" in render(hub_model())


def test_fallbacks_are_listed_by_kind(render: Callable[[Manifest], str]) -> None:
    for half in halves(render(packaged_model())):
        assert "`blk.0-29,31.attn_q.weight`" in half and "`token_embd.weight`" in half
        assert "fallbacks" in half
    assert "(31 tensors)" in half and "(1 tensor)" in half


@pytest.mark.parametrize("kind", [hub_model, generated_model])
def test_no_warning_without_fallbacks(kind: Callable[[], Manifest], render: Callable[[Manifest], str]) -> None:
    assert not re.search("Warning|注意|fallback", render(kind()))


def test_twice_quantized_weights_are_marked(render: Callable[[Manifest], str]) -> None:
    for half, warning in zip(halves(render(packaged_model())), ("两次量化", "quantized twice"), strict=True):
        assert warning in half and re.search("Q4_1, Q6_K|Q4\\\\_1, Q6\\\\_K", half)


def test_a_generated_model_says_that_it_is_useless(render: Callable[[Manifest], str]) -> None:
    for half, words in zip(halves(render(generated_model())), ("没有任何用处", "useless"), strict=True):
        assert words in half
    assert "useless" not in render(hub_model())


@pytest.mark.parametrize(
    ("kind", "heading", "switch"), [(hub_model, 1, 0), (generated_model, 1, 1), (packaged_model, 0, 0)]
)
def test_thinking(kind: Callable[[], Manifest], heading: int, switch: int, render: Callable[[Manifest], str]) -> None:
    for half in halves(render(kind())):
        assert len(re.findall("^### (?:Thinking|思考模式)$", half, re.MULTILINE)) == heading
        assert half.count('"chat_template_kwargs": {"enable_thinking": false}') == switch
        assert half.count("reasoning_content") == heading


ARITHMETICS = {
    "portable": (generated_model, "任何 x86-64 或 ARM64 处理器", "any x86-64 or ARM64 processor"),
    "native": (packaged_model, "同类处理器", "the same kind of processor"),
    "cuda": (hub_model, "同一 GPU 架构", "the same GPU architecture"),
}


@pytest.mark.parametrize("name", ARITHMETICS)
def test_where_the_importance_matrix_repeats(name: str, render: Callable[[Manifest], str]) -> None:
    """Said twice in each half, and nothing is said of the other arithmetics."""
    kind, *words = ARITHMETICS[name]
    others = [entry for other, (_, *pair) in ARITHMETICS.items() if other != name for entry in pair]
    for half, word in zip(halves(render(kind())), words, strict=True):
        assert half.count(word) == 2
        assert not [other for other in others if other in half]
        assert ("workflow/native" in half) == (name == "portable")
        assert "``" not in half.replace("```", "")


def test_vendor_scores_or_none(render: Callable[[Manifest], str]) -> None:
    assert render(hub_model()).count("| AIME25 | 81.3 |") == 2
    assert "None published." in render(generated_model())


def test_nothing_claims_to_be_measured(render: Callable[[Manifest], str]) -> None:
    chinese, english = halves(render(hub_model()))
    assert (
        chinese.count("| 未运行：配方没有要求 |") == english.count("| not run: the recipe does not ask for it |") == 7
    )


@every_kind
def test_what_was_measured_stands_in_both_halves(kind: Callable[[], Manifest], render: Callable[..., str]) -> None:
    document = kind()
    measured = evaluation(document)
    card = render(document, measured)
    for half in halves(card):
        for fact in (
            "9.8765 ± 0.0100",
            "9.9012",
            "0.01230 ± 0.01000",
            "95.50 ± 0.01 %",
            "2.1 [2, 2.2]",
            "40.1 / 60.2 / 61.3",
        ):
            assert fact in half, fact
        assert "123.46 MB" in half and "A \\| processor" in half and "`evaluation.json`" in half
    chinese, english = halves(card)
    assert (chinese.count("| 已完成 |"), chinese.count("| 未运行：")) == (4, 3)
    assert (english.count("| done |"), english.count("| not run: ")) == (4, 3)
    assert "| GPQA-Diamond | 未运行：the data set is gated |" in chinese
    assert "| GPQA-Diamond | not run: the data set is gated |" in english
    shapes = [[[len(row) for row in table] for table in tables(half)] for half in halves(card)]
    assert shapes[0] == shapes[1] and all(len(set(widths)) == 1 for widths in shapes[0])


def test_the_hub_reads_what_was_measured(render: Callable[..., str]) -> None:
    found = ModelCard(render(hub_model(), evaluation(hub_model()))).data
    results = {(result.dataset_name, result.metric_name): result.metric_value for result in found.eval_results or []}
    text = evaluation(hub_model())["fidelity"]["protocol"]["text"]["name"]
    assert results[text, "perplexity, Q4_K_M"] == 9.9012
    assert results[text, "mean KL divergence from BF16 in nats, Q4_K_M"] == 0.0123
    assert results["tool_calls", "passed, Q4_K_M"] == results["my_own", "passed, Q4_K_M"] == 0.7333
    assert not ModelCard(render(hub_model())).data.eval_results


def test_a_suite_that_was_asked_in_part(render: Callable[..., str]) -> None:
    measured = evaluation(hub_model())
    for model in measured["behaviour"]["suites"][0]["models"]:
        model.update(items=5, errors=1)
    chinese, english = halves(render(hub_model(), measured))
    assert "| Tool calls | partial 4/15 |" in english and "| 工具调用 | 部分 4/15 |" in chinese


@pytest.mark.parametrize("part", ["fidelity", "speed", "behaviour"])
def test_one_part_may_be_missing(part: str, render: Callable[..., str]) -> None:
    document = hub_model()
    card = render(document, {**evaluation(document), part: None})
    assert ("KLD is" in card) == (part != "fidelity") and ("× BF16 is the median" in card) == (part != "speed")
    assert ("Wilson's" in card) == (part != "behaviour")
    assert card.count("| not run: ") == (5 if part == "fidelity" else 4)


HOSTILE = [
    "a | b | c", "`tick` ``two`` `", "one\n\n| x | y |\n\ntwo", "---", "a\n---\nlicense: gpl-3.0", "{{ 7 * 7 }}{% raw %}",
    "<script>alert(1)</script><!--", "# heading", "```\nfence", "\\| \\", "1. item", "> quote", "[x](javascript:y)",
    "&lt;b&gt; *b* _i_ ~~s~~ $x$", "!!python/object:os.system", "'\": [", "a\r\nb\u2028c\x85d",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("kind", [hub_model, packaged_model])
def test_hostile_text_changes_no_structure(
    kind: Callable[[], Manifest], value: str, render: Callable[[Manifest], str]
) -> None:
    def structure(card: str) -> list[str]:
        inside = {"link_open", "link_close", "code_inline", "text", "softbreak"}
        kept = []
        for token in markdown(card):
            children = [child.type for child in token.children or [] if child.type not in inside]
            kept.append(f"{token.type} {children}")
        return kept

    def columns(card: str) -> list[int]:
        """Cell borders in each row: readers drop surplus cells, so the structure does not show them."""
        body = card.split("---\n", 2)[2]
        return [len(re.findall(r"(?<!\\)\|", line)) for line in body.splitlines() if line.startswith("|")]

    plain, card = render(kind()), render(poison(kind(), value))
    assert structure(card) == structure(plain)
    assert columns(card) == columns(plain)
    links = [
        child.attrs["href"] for token in markdown(card) for child in token.children or [] if child.type == "link_open"
    ]
    assert all(str(link).startswith(("https://", "#")) for link in links)
    keys = {*ModelCard(plain).data.to_dict(), "license_name", "license_link"}
    data = ModelCard(card, ignore_metadata_errors=False).data.to_dict()
    assert set(data) <= keys and data["license"] == "other"
    if "base_model" in data:
        assert data["base_model"] == " ".join(value.split())


def poison(document: Manifest, value: str) -> Manifest:
    """Put ``value`` wherever the schemas of recipe and pin table leave the text free."""
    document = copy.deepcopy(document)
    card, inputs = document["recipe"]["document"]["card"], document["inputs"]
    card["base_model"] = value
    card["summary"] = {"zh": value, "en": value}
    card["vendor_benchmarks"]["source"] = value
    for row in card["vendor_benchmarks"]["rows"]:
        row["name"] = row["score"] = value
    for entry in (inputs["model"], inputs["corpus"]):
        entry["name"] = entry["licence"] = value
    if inputs["corpus"]["config"]:
        inputs["corpus"]["config"] = value
    inputs["toolchain"]["name"] = document["model"]["architecture"] = value
    for quant in document["quants"]:
        for fallback in quant["fallbacks"]:
            fallback["name"] = value
    if document["model"]["expanded_from"]:
        document["model"]["expanded_from"] = value
    return document
