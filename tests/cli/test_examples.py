"""Every example of ``requant VERB --help`` is run, in a real shell, on small files of the names that it says."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from requant.cli.command import Verb
from requant.cli.main import main
from requant.documents.records import write_record
from requant.documents.results import write_results
from requant.ground.digests import digest_file
from requant.release.keys import new_key
from requant.release.signing import sign_release
from support.checkout import ROOT
from support.command import installed, run
from support.endpoint import ScriptedEndpoint, message
from support.endpoint.suites import numbers
from support.gguf_files import gguf_bytes, pair, string, tensor, write_imatrix
from support.hub import TOKEN, LoopbackHub
from support.hub.clients import Client
from support.small_release import QUANT, write_release

WEIGHT = "blk.0.attn_q.weight"
QUANTIZE = '#!/bin/sh\ncp "$2" "$4" && echo "[ 1/ 1] done"\n'
"""Stands in for llama-quantize: the quant is a copy of the importance matrix."""


def release(folder: Path) -> None:
    write_release(folder / "release")


def signed(folder: Path) -> None:
    release(folder)
    new_key(folder / "release.key")
    sign_release(folder / "release", folder / "release.key")


def key(folder: Path) -> None:
    release(folder)
    new_key(folder / "release.key")


def two_releases(folder: Path) -> None:
    release(folder)
    shutil.copytree(folder / "release", folder / "other-release")
    (folder / "other-release" / "imatrix.gguf").unlink()


def two_quants(folder: Path) -> None:
    release(folder)
    for name in ("model-Q4_K_M.gguf", "other-Q4_K_M.gguf"):
        shutil.copyfile(folder / "release" / QUANT, folder / name)


def imatrix(path: Path, value: float = 1) -> None:
    squares, counts = np.full((1, 8), value, np.float32), np.full((1, 1), 16, np.float32)
    write_imatrix(path, {f"{WEIGHT}.in_sum2": squares, f"{WEIGHT}.counts": counts})


def two_matrices(folder: Path) -> None:
    imatrix(folder / "imatrix.gguf")
    imatrix(folder / "other-imatrix.gguf", 2)


def trial(folder: Path) -> None:
    two_matrices(folder)
    weights(folder)
    program = folder / "llama-quantize"
    program.write_text(QUANTIZE)
    program.chmod(0o755)
    digest = digest_file(program)
    binaries = {program.name: {"size": digest.size, "sha256": digest.sha256}}
    write_record(folder / "llama-quantize.json", {"variant": "strict", "commit": "0" * 40, "binaries": binaries})


def weights(folder: Path) -> None:
    """A GGUF of one matrix, in F32."""
    data = gguf_bytes([pair("general.architecture", 8, string("qwen3"))], [tensor(WEIGHT, [8, 4])], bytes(128))
    (folder / "model.gguf").write_bytes(data)


def matrix_and_weights(folder: Path) -> None:
    imatrix(folder / "imatrix.gguf")
    weights(folder)


def quants(folder: Path) -> None:
    """A list of one quant, which is its own weights."""
    weights(folder)
    (folder / "quants.txt").write_text("./model.gguf ./model.gguf\n")


def two_results(folder: Path) -> None:
    for name, outcome in (("answers", "passed"), ("other-answers", "failed")):
        write_results({"suite": "s"}, [{"id": "q", "outcome": outcome}], folder / f"{name}.jsonl")


def suite(folder: Path) -> None:
    numbers(folder, 3)


def pin_table(folder: Path) -> None:
    (folder / "config").mkdir()
    shutil.copyfile(ROOT / "config" / "pins.yaml", folder / "config" / "pins.yaml")


def recipe(folder: Path) -> None:
    pin_table(folder)
    shutil.copyfile(ROOT / "config" / "smollm2.yaml", folder / "config" / "smollm2.yaml")


def own_model(folder: Path) -> None:
    pin_table(folder)
    (folder / "my-model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "my-model" / name).write_text("{}")


def nothing(_: Path) -> None:
    pass


EXAMPLES: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "requant make config/smollm2.yaml --dry-run": (recipe, 0, ""),
    "requant pin my-model --licence Apache-2.0": (own_model, 0, "wrote models.my-model into config/pins.yaml, 2 files"),
    "requant new-recipe SmolLM2-135M-Instruct my-recipe.yaml --publisher somebody": (pin_table, 0, "wrote my-recipe.yaml"),
    "requant audit imatrix.gguf --source model.gguf": (matrix_and_weights, 0, "plausible: imatrix.gguf"),
    "requant survey quants.txt": (quants, 0, "1 quant: 1 answered well"),
    "requant survey quants.txt --out october --rows 256": (quants, 0, "the table is october/survey.html"),
    "requant verify release": (release, 0, "agrees: "),
    "requant verify release --key release.key.pub --json report.json": (signed, 0, "signed by the key "),
    "requant diff model-Q4_K_M.gguf other-Q4_K_M.gguf": (two_quants, 0, "same: all keys and 3 tensors are equal"),
    "requant diff release other-release": (two_releases, 1, "they differ in 1 of 5 files"),
    "requant diff imatrix.gguf other-imatrix.gguf --json differences.json": (two_matrices, 1, "they differ in 1 of 1 we"),
    "requant diff imatrix.gguf other-imatrix.gguf --quantize model.gguf --type Q4_K_M --tool llama-quantize.json": (
        trial, 1, "model.gguf as Q4_K_M"),
    "requant diff answers.jsonl other-answers.jsonl": (two_results, 1, "exact McNemar p value: 1"),
    "requant attest release --key release.key": (key, 0, "wrote release/attestation.intoto.json"),
    "requant new-key release.key": (nothing, 0, "wrote release.key (keep it secret) and release.key.pub"),
    "requant evaluate suite.jsonl --endpoint http://127.0.0.1:8080/v1 --model qwen3 --out answers.jsonl": (
        suite, 0, "wrote answers.jsonl"),
    'eval "$(requant completion bash)"': (nothing, 0, ""),
}  # fmt: skip
PUBLISHING = (
    "requant publish release --to huggingface:somebody/Tiny-Qwen3-GGUF",
    "requant publish release --to huggingface:somebody/Tiny-Qwen3-GGUF --to modelscope:somebody/Tiny-GGUF --upload",
)
ELSEWHERE = {
    "requant audit release --source weights --full", "requant convert Tiny-Qwen3 Tiny-Qwen3.gguf",
    "requant pin Qwen/Qwen3-4B-Thinking-2507", *PUBLISHING, "requant serve release",
    "requant serve release/model-Q4_K_M.gguf --port 8081 --ctx-size 8192", "requant doctor", "requant gc",
    "requant gc --delete",
}  # fmt: skip
"""Need the demo's weights and a llama.cpp: test_audit_command.py, test_convert_command.py and test_serve.py in tests/e2e
run them; the others a Hub, below. What doctor and gc say depends on the machine: tests/machine runs them."""


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example(tmp_path: Path, server: ScriptedEndpoint, example: str) -> None:
    prepare, code, words = EXAMPLES[example]
    environment, folder = installed(tmp_path / "bin"), tmp_path / "folder"
    folder.mkdir()
    prepare(folder)
    server.otherwise = message("1")
    typed = example.replace("http://127.0.0.1:8080/v1", server.url)
    done = subprocess.run(["bash", "-c", typed], cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode, words in done.stdout) == (code, True), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_an_example_that_needs_a_hub(tmp_path: Path, hub: LoopbackHub) -> None:
    environment, folder = installed(tmp_path / "bin"), tmp_path / "folder"
    folder.mkdir()
    own_model(folder)
    (folder / "my-model" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    commit = hub.add_model("Qwen/Qwen3-4B-Thinking-2507", folder / "my-model").commit
    known = {**environment, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    command = ["requant", "pin", "Qwen/Qwen3-4B-Thinking-2507"]
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True)
    assert done.returncode == 2, "our own table has this pin"
    assert "has models.Qwen3-4B-Thinking-2507 already" in done.stderr
    (folder / "config" / "pins.yaml").write_text("models: {}\ncorpora: {}\ntoolchains: {}\n")
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True)
    assert "has no line that is models: and nothing else" in done.stderr
    shutil.copyfile(ROOT / "config" / "pins.yaml", folder / "config" / "pins.yaml")
    done = subprocess.run([*command, "--name", "Qwen"], cwd=folder, env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"    revision: {commit}\n" in done.stdout
    assert "next: requant new-recipe Qwen Qwen.yaml --publisher YOU" in done.stdout


def test_the_examples_of_publishing(tmp_path: Path, hub: LoopbackHub) -> None:
    environment, folder = installed(tmp_path / "bin"), tmp_path / "folder"
    folder.mkdir()
    release(folder)
    hub.accounts[TOKEN] = "somebody"
    known = {**environment, **Client(hub, tmp_path / "home").environment(HF_TOKEN=TOKEN, MODELSCOPE_API_TOKEN=TOKEN)}
    known |= {"PATH": environment["PATH"], "HF_HUB_DISABLE_XET": "1"}
    said = []
    for example in PUBLISHING:
        done = subprocess.run(["bash", "-c", example], cwd=folder, env=known, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert said[0].endswith("nothing was changed: carry it out with --upload\n")
    assert said[1].count("complete: ") == 2 and f"wrote {folder}/published.json" in said[1]


def verbs() -> dict[str, Verb]:
    shown = {name: verb for name, verb in main.commands.items() if not verb.hidden}
    assert all(isinstance(verb, Verb) for verb in shown.values())
    return {name: verb for name, verb in shown.items() if isinstance(verb, Verb)}


def test_every_verb_has_examples_and_each_is_run() -> None:
    assert all(verb.examples for verb in verbs().values())
    assert {example for verb in verbs().values() for example in verb.examples} == EXAMPLES.keys() | ELSEWHERE


@pytest.mark.parametrize("name", [name for name, verb in main.commands.items() if not verb.hidden])
def test_the_help_shows_them_unbroken(name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.split("\nExamples:\n")[1].splitlines() == [f"  {example}" for example in verbs()[name].examples]
