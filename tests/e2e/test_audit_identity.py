"""What an audit speaks of are the bytes that it read: digests that others give, padding, matrices beside a quant."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from requant.formats.gguf import Header, Tensor, padded, read_header
from requant.formats.imatrix import read_imatrix
from support.command import Audit
from support.gguf_files import gguf_bytes, pair, tensor, write_imatrix
from support.hollow import TOOL
from support.hub import LoopbackHub
from support.relabelled import payload, relabelled
from support.workplace import QUANT, Workplace


def test_a_hub_that_records_another_digest(audit: Audit, released: Path, generated: Path, tmp_path: Path) -> None:
    """Read over HTTP, all of it: what was read is said, and that the record is of something else."""
    true, false = hashlib.sha256((released / QUANT).read_bytes()).hexdigest(), "f" * 64
    with LoopbackHub() as hub:
        hub.add_model("some/Tiny-GGUF", released, digests={QUANT: false})
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        code, said, report = audit("hf://some/Tiny-GGUF", "--source", generated, "--full", **env)
    assert (code, report["subject"]["sha256"], report["subject"]["recorded"]) == (1, true, {"the hub": false}), said
    assert report["answers"]["weights"]["status"] == "exact"
    assert f"the hub gives SHA-256 {false}, and the bytes that were read have {true}" in report["headline"]


def test_a_manifest_that_claims_another_digest(audit: Audit, demo: Workplace, generated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "claimed"
    shutil.copytree(demo.release, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["quants"][0]["file"]["sha256"] = "e" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    code, said, report = audit(folder, "--source", generated, "--full")
    assert code == 1, said
    assert f"the manifest gives SHA-256 {'e' * 64}" in report["headline"]
    code, said, report = audit(folder, "--source", generated, "--rows", "9")
    assert report["subject"]["sha256"] is None, "a sample did not read it all, and says so"
    assert "only recorded, not computed here" in " ".join(said.split())
    assert (code, report["answers"]["recipe"]["status"]) == (1, "contradicted"), "but its steps made another file"
    for step in manifest["steps"]:
        for file in step["products"]:
            if file["name"] == QUANT:
                file["sha256"] = "e" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    code, said, report = audit(folder, "--source", generated, "--rows", "9")
    assert (code, report["answers"]["recipe"]["status"]) == (0, "stock"), said


def spaced(source: Path, out: Path, alignment: int, fill: bytes) -> Path:
    """The same tensors with another alignment, and ``fill`` in what lies between them."""
    header: Header = read_header(source)
    data, pieces, infos = source.read_bytes(), b"", []
    for each in header.tensors:
        infos.append(_placed(each, len(pieces)))
        piece = data[each.offset : each.offset + each.nbytes]
        room = padded(len(piece), alignment) - len(piece)
        pieces += piece + (fill * room)[:room]
    pairs = [pair(key, field.type, payload(field)) for key, field in header.metadata.items()]
    pairs.append(pair("general.alignment", 4, alignment.to_bytes(4, "little")))
    out.write_bytes(gguf_bytes(pairs, infos, pieces, alignment=alignment))
    return out


def _placed(found: Tensor, offset: int) -> bytes:
    return tensor(found.name, found.shape, found.type, offset)


@pytest.mark.parametrize("rows", [["--full"], ["--rows", "20", "--seed", "1"]], ids=["full", "sample"])
@pytest.mark.parametrize(
    ("fill", "code", "status"), [(b"\0", 0, None), (b"secret", 1, "hidden")], ids=["zeros", "hidden"]
)
def test_what_lies_between_the_tensors(
    audit: Audit, released: Path, generated: Path, rows: list[str], fill: bytes, code: int, status: str | None
) -> None:
    changed = spaced(released / QUANT, released / "Spaced-Q4_K_M.gguf", 4096, fill)
    found, said, report = audit(changed, "--source", generated, *rows)
    coverage = report["answers"]["coverage"]
    assert (found, coverage["status"]) == (code, status or ("full" if rows == ["--full"] else "sample")), said
    assert "tensors are aligned to 4,096 bytes instead of 32" in coverage["sentence"]
    assert ("between the tensors are not zero" in report["headline"]) == (code == 1)
    assert report["answers"]["weights"]["status"] == "exact"


IMATRIX_KEYS = ("file", "dataset", "entries_count", "chunks_count")


def test_a_matrix_of_which_the_header_says_nothing(audit: Audit, released: Path, generated: Path) -> None:
    """Old headers and rewritten ones lack these keys; the matrix lies beside the quant, under whatever name."""
    nothing = dict.fromkeys(f"quantize.imatrix.{key}" for key in IMATRIX_KEYS)
    relabelled(released / QUANT, released / "Model-Q4_K_M.gguf", nothing)
    (released / QUANT).unlink()
    (released / "imatrix.gguf").rename(released / "Model-imatrix.gguf")
    code, said, report = audit(released, "--source", generated)
    assert (code, report["answers"]["weights"]["status"]) == (0, "exact"), said
    assert report["imatrix"]["sha256"] == hashlib.sha256((released / "Model-imatrix.gguf").read_bytes()).hexdigest()
    (released / "Model-imatrix.gguf").write_bytes(b"GGUF, but damaged")
    code, said, report = audit(released / "Model-Q4_K_M.gguf", "--source", generated)
    assert (code, report["answers"]["weights"]["status"], report["imatrix"]) == (3, "consistent", None), said


def test_a_matrix_that_was_not_used(audit: Audit, demo: Workplace, released: Path, generated: Path) -> None:
    """It says that it was made with one; its bytes are those that llama-quantize makes without."""
    weights = demo.results / "bf16" / "converted" / "Tiny-Qwen3.gguf"
    plain, claims = released / "plain.gguf", read_header(released / QUANT).metadata
    subprocess.run([TOOL, weights, plain, "Q4_K_M", "2"], check=True, capture_output=True)
    said_of_it = {key: field for key, field in claims.items() if key.startswith("quantize.imatrix.")}
    assert len(said_of_it) == len(IMATRIX_KEYS)
    claiming = relabelled(plain, released / "Claiming-Q4_K_M.gguf", said_of_it)
    for subject, code, recipe in ((plain, 0, "stock"), (claiming, 1, "contradicted")):
        found, said, report = audit(subject, "--source", generated)
        answers = report["answers"]
        assert (found, answers["weights"]["status"], answers["recipe"]["status"]) == (code, "exact", recipe), said
        assert report["imatrix"] is None, "it lies beside, and was not used"
    assert "says that it was made with an importance matrix, and its bytes are those without one" in said


def test_another_matrix_accuses_nobody(audit: Audit, released: Path, generated: Path) -> None:
    """One that was put there later: neither with it nor without anything fits, so nothing is said of the making."""
    tensors = {}
    for name, entry in read_imatrix(released / "imatrix.gguf").entries.items():
        tensors |= {f"{name}.in_sum2": entry.in_sum2[:, ::-1].copy(), f"{name}.counts": entry.counts[:, None]}
    (released / "imatrix.gguf").unlink()
    write_imatrix(released / "imatrix.gguf", tensors, ["later.txt"], 99, 512)
    code, said, report = audit(released / QUANT, "--source", generated)
    answers = {question: answer["status"] for question, answer in report["answers"].items()}
    assert (code, answers["weights"], answers["recipe"], report["imatrix"]) == (3, "consistent", "unchecked", None), (
        said
    )


def test_a_matrix_that_is_not_at_hand(audit: Audit, released: Path, generated: Path) -> None:
    """Its quants follow from the weights all the same, and a single changed one does not."""
    (released / "imatrix.gguf").unlink()
    quant = released / QUANT
    for rows in (["--full"], ["--rows", "50", "--seed", "3"]):
        code, said, report = audit(quant, "--source", generated, *rows)
        answers = report["answers"]
        assert (code, answers["weights"]["status"], report["counts"]["mismatch"]) == (3, "consistent", 0), said
        assert "follow from" in report["headline"] and "scales, is not checked" in report["headline"]
        assert answers["recipe"]["status"] != "contradicted", "what is not known is no evidence"
        looked_at = [each for each in report["tensors"] if each["verdict"] == "consistent"]
        assert {each["type"] for each in looked_at} == {"Q4_K", "Q6_K"}
        for each in looked_at:
            found = each["consistency"]
            assert (found["quants"], found["off"]) == (each["rows"] * each["shape"][0], 0)
            assert 0.9 < float(found["error_ratio"]) < 1.5 and 1 < float(found["worst_ratio"]) < 20
    [place] = [each for each in read_header(quant).tensors if each.name == "blk.2.ffn_up.weight"]
    data = bytearray(quant.read_bytes())
    data[place.offset + 3 * 144 + 20] ^= 0x20
    quant.write_bytes(data)
    code, said, report = audit(quant, "--source", generated, "--full")
    assert (code, report["counts"]["mismatch"]) == (1, 1), said
    [wrong] = [each for each in report["tensors"] if each["verdict"] == "mismatch"]
    assert wrong["consistency"]["off"] == 1
    assert "quants are not what the weights round to, and the others are" in wrong["reason"]
    assert wrong["consistency"]["first_off"] == [{"row": 3, "column": 36}] and "row 3, column 36" in said
