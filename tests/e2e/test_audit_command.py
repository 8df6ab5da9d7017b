"""requant audit as a user runs it: on the demo's release, here and on the loopback Hub, and on what is wrong with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from requant.audit.forms.page import as_page
from requant.documents.manifest import Manifest, read_manifest
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field, read_header
from requant.formats.weights_root import weights_root
from support.command import Audit, installed
from support.hub import Fault, LoopbackHub
from support.relabelled import half, number, relabelled, text
from support.workplace import QUANT, Workplace

REQUANT = str(Path(sys.executable).parent / "requant")
PASSED = {"weights": "exact", "recipe": "stock", "metadata": "harmless", "coverage": "sample"}
"""The answers to a sampled audit of the demo's release."""


def statuses(report: dict[str, Any]) -> dict[str, str]:
    """The four answers in a word each."""
    return {question: answer["status"] for question, answer in report["answers"].items()}


def test_a_full_audit_of_the_release(audit: Audit, demo: Workplace, generated: Path) -> None:
    code, said, report = audit(demo.release, "--source", generated, "--full")
    assert (code, statuses(report), report["arithmetic"]) == (0, PASSED | {"coverage": "full"}, "strict"), said
    assert said.startswith(f"{QUANT}: every tensor derives exactly from {generated.name} (strict arithmetic); ")
    assert report["headline"].endswith("; all 162,176 rows were read")
    assert {tensor["verdict"] for tensor in report["tensors"]} == {"exact"}
    assert [finding for finding in report["findings"] if finding["grade"] != "harmless"] == []
    manifest = json.loads((demo.release / "manifest.json").read_text())
    assert report["subject"]["sha256"] == manifest["quants"][0]["file"]["sha256"]
    assert set(report["subject"]["recorded"].values()) == {report["subject"]["sha256"]}
    assert (report["inferred"], report["missing"], report["allowed"]) == ([], [], [])
    assert (report["mix"]["name"], report["mix"]["command"]) == ("Q4_K_M", [])
    assert report["source"]["named_by"] == "user"


def test_without_a_manifest_the_header_is_asked(audit: Audit, released: Path, generated: Path) -> None:
    code, said, report = audit(released / QUANT, "--source", generated)
    assert (code, statuses(report)) == (0, PASSED), said
    assert any("quantized as Q4_K_M" in sentence for sentence in report["inferred"])
    assert f"(seed {report['seed']})" in report["answers"]["coverage"]["sentence"]


def test_the_same_seed_draws_the_same_rows(audit: Audit, released: Path, generated: Path) -> None:
    options = [released, "--source", generated, "--rows", "50"]
    reports = [audit(*options, "--seed", "7")[2] for _ in range(2)] + [audit(*options)[2]]
    for report in reports:
        del report["run"]
    assert reports[0] == reports[1] != reports[2]


def test_the_imatrix_is_needed(audit: Audit, released: Path, generated: Path) -> None:
    """Without it the scales are not known, and what the weights round to under them is all that can be asked."""
    hidden = released / "hidden"
    hidden.mkdir()
    (released / "imatrix.gguf").rename(hidden / "imatrix.gguf")
    code, said, report = audit(released / QUANT, "--source", generated, "--full")
    consistent = PASSED | {"weights": "consistent", "recipe": "unchecked", "coverage": "full"}
    assert (code, statuses(report)) == (3, consistent), said
    assert "28 of 46 tensors follow from generated as far as can be told without the importance matrix" in said
    assert report["answers"]["coverage"]["sentence"].startswith("all 162,176 rows were read")
    plain = {tensor["name"] for tensor in report["tensors"] if tensor["verdict"] == "exact"}
    assert {name for name in plain if not name.endswith("norm.weight")} == {"token_embd.weight"}
    code, said, report = audit(released / QUANT, "--source", generated, "--imatrix", hidden / "imatrix.gguf", "--full")
    assert (code, statuses(report)) == (0, PASSED | {"coverage": "full"}), said


CHANGES: dict[str, tuple[str, Callable[[Path], Field | None]]] = {
    "chat template": ("tokenizer.chat_template", lambda _: text("{{ messages }}")),
    "one token": ("tokenizer.ggml.tokens", lambda path: other_token(path)),
    "eos id": ("tokenizer.ggml.eos_token_id", lambda _: number(7)),
    "rope base": ("qwen3.rope.freq_base", lambda _: half(500000.0)),
    "norm epsilon": ("qwen3.attention.layer_norm_rms_epsilon", lambda _: half(1e-5)),
    "a key less": ("qwen3.rope.freq_base", lambda _: None),
    "a key more": ("qwen3.rope.scaling.type", lambda _: text("yarn")),
}
LABELS: dict[str, tuple[str, Callable[[Path], Field | None]]] = {
    "file type": ("general.file_type", lambda _: number(7)),
    "file type of a mix that shares a type": ("general.file_type", lambda _: number(17)),
    "imatrix chunks": ("quantize.imatrix.chunks_count", lambda _: Field(ValueType.INT32, 99)),
}


def other_token(path: Path) -> Field:
    field = read_header(path).metadata["tokenizer.ggml.tokens"]
    assert isinstance(field.value, list)
    return Field(field.type, [*field.value[:1000], "evil", *field.value[1001:]], field.item)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        *((*change, {"metadata": "changed"}) for change in CHANGES.values()),
        *((*change, {"recipe": "contradicted"}) for change in LABELS.values()),
    ],
    ids=[*CHANGES, *LABELS],
)
def test_changed_metadata(
    audit: Audit,
    released: Path,
    generated: Path,
    key: str,
    change: Callable[[Path], Field | None],
    words: dict[str, str],
) -> None:
    """Evidence in the answer that it belongs to, and in no other; the headline begins with it."""
    changed = relabelled(released / QUANT, released / "changed.gguf", {key: change(released / QUANT)})
    code, said, report = audit(changed, "--source", generated, "--rows", "20")
    assert (code, statuses(report)) == (1, PASSED | words), said
    serious = [finding["key"] for finding in report["findings"] if finding["grade"] == "serious"]
    assert key in serious, said
    [question] = words
    assert report["headline"].startswith(f"changed.gguf: {report['answers'][question]['sentence']}; every row")


def test_a_harmless_change_passes(audit: Audit, released: Path, generated: Path) -> None:
    changes = {"general.name": text("Mine"), "quantize.imatrix.file": text("/home/x/imatrix.gguf")}
    changed = relabelled(released / QUANT, released / "changed.gguf", changes)
    code, said, report = audit(changed, "--source", generated, "--rows", "20")
    assert (code, statuses(report)) == (0, PASSED), said
    assert {"general.name", "quantize.imatrix.file"} <= {finding["key"] for finding in report["findings"]}


def flipped(path: Path, name: str) -> None:
    """Flip one bit of the first scale of a tensor's first block."""
    [tensor] = [tensor for tensor in read_header(path).tensors if tensor.name == name]
    data = np.memmap(path, np.uint8, "r+", tensor.offset, (tensor.nbytes,))
    data[4] ^= 1
    data.flush()


def test_one_flipped_bit(audit: Audit, released: Path, generated: Path) -> None:
    flipped(released / QUANT, "blk.2.ffn_up.weight")
    code, said, report = audit(released, "--source", generated, "--full")
    assert (code, statuses(report)) == (1, PASSED | {"weights": "mismatch", "coverage": "full"})
    [odd] = [tensor for tensor in report["tensors"] if tensor["verdict"] != "exact"]
    assert (odd["name"], odd["verdict"], odd["unexplained"]) == ("blk.2.ffn_up.weight", "mismatch", 1)
    assert odd["examples"][0] | {"ratio": ""} == {"row": 0, "column": 0, "bytes": 1, "of": 144, "ratio": ""}
    assert said.startswith(f"{QUANT}: 1 of 46 tensors does not derive from {generated.name}: blk.2.ffn_up.weight; ")


def test_a_label_less_makes_nothing_unchecked(audit: Audit, released: Path, generated: Path) -> None:
    """The mix is told from the tensors, and the file's name held against it."""
    for name, words, code in (("x.gguf", "stock", 0), ("Tiny-Q6_K.gguf", "contradicted", 1)):
        changed = relabelled(released / QUANT, released / name, {"general.file_type": None})
        found, said, report = audit(changed, "--source", generated, "--rows", "20")
        assert (found, statuses(report)) == (code, PASSED | {"recipe": words}), said
        assert report["mix"]["name"] == "Q4_K_M"


SAMPLING = tuple(f"general.sampling.{key}" for key in ("temp", "top_k", "top_p"))


@pytest.mark.parametrize(("question", "keys"), [("metadata", SAMPLING), ("recipe", ("general.file_type",))])
def test_what_could_not_be_checked_keeps_0_away(
    audit: Audit, released: Path, generated: Path, tmp_path: Path, question: str, keys: tuple[str, ...]
) -> None:
    """Until every key is named; then the report says so."""
    other, changes = tmp_path / "other", {}
    shutil.copytree(generated, other)
    if question == "metadata":
        (other / "generation_config.json").write_text("{")
    else:
        changes = {"general.file_type": number(999)}
    changed = relabelled(released / QUANT, released / "changed.gguf", changes)
    options: list[str | Path] = [changed, "--source", other, "--rows", "20"]
    for number_allowed in range(len(keys)):
        allowed = [each for key in keys[:number_allowed] for each in ("--allow-unchecked", key)]
        code, said, report = audit(*options, *allowed)
        assert (code, statuses(report)) == (3, PASSED | {question: "unchecked"}), said
        assert keys[-1] in report["headline"]
    options += [each for key in (*keys, "general.name") for each in ("--allow-unchecked", key)]
    code, said, report = audit(*options)
    assert (code, statuses(report), report["allowed"]) == (0, PASSED, [*keys]), said
    assert f"{', '.join(keys)} could not be checked, as was allowed" in report["headline"]


def test_weights_that_only_the_subject_names(
    audit: Audit, demo: Workplace, released: Path, generated: Path, tmp_path: Path
) -> None:
    """Its word proves nothing, until the user takes it; then the first lines say so."""
    url = "https://huggingface.co/org/Tiny"
    named = {"general.base_model.count": number(1), "general.base_model.0.repo_url": text(url)}
    changed = relabelled(released / QUANT, released / "changed.gguf", named)
    with LoopbackHub() as hub:
        hub.add_model("org/Tiny", generated)
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        code, said, report = audit(changed, "--rows", "20", **env)
        assert (code, statuses(report), report["source"]["named_by"]) == (3, PASSED, "subject"), said
        assert report["headline"].startswith(
            "changed.gguf: the weights are named by the subject itself, which proves nothing"
        )
        code, said, report = audit(changed, "--rows", "20", "--trust-subject", **env)
        assert (code, statuses(report), report["source"]["named_by"]) == (0, PASSED, "subject, trusted"), said
        assert "the weights are named by the subject itself, trusted with --trust-subject" in report["headline"]


def test_other_weights_are_a_mismatch(audit: Audit, released: Path, generated: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(generated, other)
    shard = max(other.glob("*.safetensors"))
    data = np.memmap(shard, np.uint8, "r+")
    data[-1_000_000:] ^= np.uint8(1)
    data.flush()
    code, said, report = audit(released, "--source", other, "--full")
    assert (code, statuses(report)) == (1, PASSED | {"weights": "mismatch", "coverage": "full"}), said
    verdicts = {tensor["verdict"] for tensor in report["tensors"]}
    assert verdicts == {"exact", "mismatch"}


def test_an_output_layer_that_is_the_embedding_once_more(
    audit: Audit, released: Path, generated: Path, tmp_path: Path
) -> None:
    """Qwen3-0.6B stores one, and quants of it hold it or not; where it is another matrix, it is missing."""
    other = tmp_path / "other"
    shutil.copytree(generated, other)
    index = json.loads((other / "model.safetensors.index.json").read_text())
    index["weight_map"]["lm_head.weight"] = "model-head.safetensors"
    (other / "model.safetensors.index.json").write_text(json.dumps(index))
    info, data = stored(other / index["weight_map"][EMBEDDING], EMBEDDING)
    head = json.dumps({"lm_head.weight": info | {"data_offsets": [0, len(data)]}}).encode()
    for content, code, weights in ((data, 0, "exact"), (data[::-1], 1, "mismatch")):
        shard = len(head).to_bytes(8, "little") + head + content
        (other / "model-head.safetensors").write_bytes(shard)
        found, said, report = audit(released / QUANT, "--source", other, "--rows", "20")
        assert (found, statuses(report)) == (code, PASSED | {"weights": weights}), said
        assert report["missing"] == ([] if code == 0 else ["output.weight"])
        assert ("store the embedding once more, as output.weight" in said) == (code == 0)


EMBEDDING = "model.embed_tokens.weight"


def stored(shard: Path, name: str) -> tuple[dict[str, Any], bytes]:
    """What a file of safetensors says of a tensor, and its bytes."""
    data = shard.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    found = json.loads(data[8:begin])[name]
    return found, data[begin:][slice(*found["data_offsets"])]


def test_over_the_loopback_hub(audit: Audit, demo: Workplace, generated: Path, tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        subject, source = hub.add_model("some/Tiny-GGUF", demo.release), hub.add_model("org/Tiny", generated)
        env = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        known = f"org/Tiny@{source.commit}"
        for address, weights_at in (
            ("hf://some/Tiny-GGUF", known),
            (f"hf://some/Tiny-GGUF@{subject.commit}/{QUANT}", f"hf://{known}"),
            ("ms://some/Tiny-GGUF", "ms://org/Tiny"),
            (f"{hub.url}/some/Tiny-GGUF/resolve/main/{QUANT}", known),
        ):
            extra = ["--imatrix", "hf://some/Tiny-GGUF/imatrix.gguf"] if address.startswith("http") else []
            code, said, report = audit(address, "--source", weights_at, "--rows", "100", *extra, **env)
            assert (code, statuses(report)) == (0, PASSED), said
            assert 0 < report["run"]["bytes_fetched"] < 40_000_000
            if not address.startswith("ms"):
                assert report["source"]["revision"] == source.commit
                assert report["source"]["address"] == f"hf://{known}" == report["command"][4]
            if address.startswith("hf"):
                assert report["command"][2] == f"hf://some/Tiny-GGUF@{subject.commit}/{QUANT}", "what a branch was"
        hub.faults.add(Fault("/cdn/*", kind="status", status=503))
        code, said, report = audit("hf://some/Tiny-GGUF", "--source", known, "--rows", "100", **env)
        assert (code, report) == (3, {}), said


WRONG: dict[str, tuple[list[str], int, str]] = {
    "nothing there": (["no/such/file.gguf", "--source", "{weights}"], 2, "does not exist"),
    "no weights named": (["{release}"], 2, "give --source"),
    "weights not there": (["{release}", "--source", "{release}/nothing"], 2, "nothing"),
    "not a GGUF": (["{weights}/config.json", "--source", "{weights}"], 2, "not a GGUF file"),
    "source is the quant": (["{release}", "--source", "{release}/{quant}", "--rows", "9"], 3, "name the unquantized"),
    "full and rows": (["{release}", "--full", "--rows", "9"], 2, "leave out --rows"),
    "attest a sample": (["{release}", "--attest", "x", "--key", "y"], 2, "--attest needs --key and --full"),
    "a key that is none": (
        ["{release}", "--source", "{weights}", "--full", "--attest", "x", "--key", "{weights}/config.json"],
        2,
        "is not a private key in a PEM file",
    ),
    "a report over the quant": (
        ["{release}", "--source", "{weights}", "--markdown", "{release}/{quant}"],
        2,
        "is read by this command",
    ),
    "no such toolchain": (["{release}", "--source", "{weights}", "--toolchain", "x"], 2, "write one of"),
    "unknown scheme": (["ftp://x/y", "--source", "{weights}"], 2, "no known kind of place"),
    "imatrix is a model": (["{release}", "--source", "{weights}", "--imatrix", "{release}/{quant}"], 2, "not an impo"),
}


@pytest.mark.parametrize(("arguments", "code", "sentence"), WRONG.values(), ids=WRONG)
def test_bad_usage(
    audit: Audit, demo: Workplace, generated: Path, arguments: list[str], code: int, sentence: str
) -> None:
    names = {"release": str(demo.release), "weights": str(generated), "quant": QUANT}
    found, said, _ = audit(*(argument.format(**names) for argument in arguments))
    assert found == code, said
    assert sentence in said


def test_markdown_shows_and_does_nothing(audit: Audit, released: Path, generated: Path, tmp_path: Path) -> None:
    flipped(released / QUANT, "blk.2.ffn_up.weight")
    evil = text("<script>alert(1)</script> [x](http://evil) | `")
    changed = relabelled(released / QUANT, released / "changed.gguf", {"tokenizer.chat_template": evil})
    forms = ("--markdown", tmp_path / "report.md", "--html", tmp_path / "report.html")
    _, _, report = audit(changed, "--source", generated, "--full", *forms)
    page = (tmp_path / "report.html").read_text()
    assert page == as_page(report) and "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    html = MarkdownIt("commonmark").enable("table").render((tmp_path / "report.md").read_text())
    assert "<strong><code>changed.gguf</code>: 1 of 46 tensors does not derive from " in html
    assert (
        "; the metadata is changed: <code>tokenizer.chat_template</code> is not what the named weights give; " in html
    )
    assert "blk.2.ffn_up.weight" in html and "<script>" not in html and "href" not in html
    assert html.count("<table>") == 4, "answers, facts, tensors, metadata"


def test_attested_and_verified(audit: Audit, demo: Workplace, generated: Path, tmp_path: Path) -> None:
    key, statement = tmp_path / "key.pem", tmp_path / "audit.intoto.json"
    assert subprocess.run([REQUANT, "new-key", str(key)], capture_output=True).returncode == 0
    page = tmp_path / "report.md"
    options = ["--full", "--attest", statement, "--key", key, "--markdown", page]
    code, said, report = audit(demo.release, "--source", generated, *options)
    assert code == 0, said
    assert report["source"]["weights_root"] == weights_root(demo_manifest(demo).bf16.tensors), "as of the BF16 GGUF"
    assert report["subject"]["weights_root"] == weights_root(demo_manifest(demo).quants[0].tensors)
    for path in (statement, page):
        assert str(demo.folder) not in path.read_text(), "no path of this machine is published"
    options = ["--statement", statement, "--key", tmp_path / "key.pem.pub", "--source", generated]
    for file, code, words in (
        (demo.release / QUANT, 0, "agrees: none of 1 file differs"),
        (repaired(demo, tmp_path), 3, "weights as attested, metadata changed: tokenizer.chat_template"),
    ):
        done = subprocess.run([REQUANT, "verify", file, *options], capture_output=True, text=True)
        assert (done.returncode, words in done.stdout) == (code, True), done.stdout + done.stderr


def demo_manifest(demo: Workplace) -> Manifest:
    return read_manifest(demo.release / "manifest.json")


def repaired(demo: Workplace, folder: Path) -> Path:
    """As a publisher mends a chat template later."""
    return relabelled(demo.release / QUANT, folder / QUANT, {"tokenizer.chat_template": text("{{ messages }}")})


def test_a_failed_audit_is_not_attested(audit: Audit, released: Path, generated: Path, tmp_path: Path) -> None:
    key, statement = tmp_path / "key.pem", tmp_path / "audit.intoto.json"
    assert subprocess.run([REQUANT, "new-key", str(key)], capture_output=True).returncode == 0
    flipped(released / QUANT, "blk.2.ffn_up.weight")
    code, said, _ = audit(released, "--source", generated, "--full", "--attest", statement, "--key", key)
    assert (code, statement.exists()) == (1, False), said
    assert f"{statement} was not written: only a passed audit is attested" in said


def test_the_helps_example(demo: Workplace, cache: Path, generated: Path, tmp_path: Path) -> None:
    """The only one that tests/cli/test_examples.py leaves."""
    (tmp_path / "release").symlink_to(demo.release)
    (tmp_path / "weights").symlink_to(generated)
    environment = installed(tmp_path / "bin") | {"XDG_CACHE_HOME": str(cache)}
    example = "requant audit release --source weights --full"
    done = subprocess.run(["bash", "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True)
    headline = done.stdout.partition("\n")[0]
    assert (done.returncode, headline[: len(QUANT) + 1]) == (0, f"{QUANT}:"), done.stdout + done.stderr


def test_diff_names_the_tensor(demo: Workplace, released: Path, cache: Path) -> None:
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [REQUANT, "diff", str(demo.release / QUANT), str(released / QUANT)]
    assert subprocess.run(command, env=env, capture_output=True).returncode == 0
    flipped(released / QUANT, "blk.2.ffn_up.weight")
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, "blk.2.ffn_up.weight" in done.stdout) == (1, True), done.stdout + done.stderr
    done = subprocess.run([*command[:3], str(released / "none")], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("error: ")) == (2, True), done.stdout + done.stderr


def test_an_imatrix_alone(audit: Audit, released: Path, generated: Path) -> None:
    code, said, report = audit(released / "imatrix.gguf", "--source", generated)
    assert (code, report["verdict"], report["findings"]) == (0, "plausible", []), said
    changed = relabelled(released / "imatrix.gguf", released / "other.gguf", {"imatrix.chunk_count": number(99)})
    code, said, report = audit(changed, "--source", generated)
    assert (code, report["verdict"]) == (1, "mismatch"), said
    assert {finding["actual"] for finding in report["findings"]} == {"51,200"}
