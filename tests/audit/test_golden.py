"""What was written on a day of November 2026, in the forms of then: it verifies and is shown for ever.

``tests/golden/v2`` holds a small quant that llama.cpp's quantizer made, its weights, the report of its audit
(``requant/audit/v2``), the signed statements about it (``derivation/v2`` and ``svr/v0.1``), and the manifest of the demo's
release (``requant/manifest/v2``).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from requant.audit.forms.page import as_page
from requant.audit.forms.quotation import as_markdown
from requant.audit.forms.terminal import as_text
from requant.audit.question import Question, audit
from requant.audit.render import rendered
from requant.cli.main import main
from requant.documents.consistency import disagreements
from requant.documents.manifest import read_manifest
from requant.documents.schemas import fault
from requant.ground.canonical import canonical
from requant.release.attestation import bundled
from requant.release.card import write_card
from requant.release.derivation import DERIVATION, SVR
from support.attested import signed_statement
from support.checkout import ROOT
from support.relabelled import relabelled, text

GOLDEN = ROOT / "tests" / "golden" / "v2"
QUANT, WEIGHTS, REPORT, STATEMENT, KEY = (
    GOLDEN / name
    for name in ("Golden-Q8_0.gguf", "Golden-BF16.gguf", "audit.json", "audit.intoto.jsonl", "key.pem.pub")
)


def verified(file: Path) -> tuple[int, str]:
    options = ["--statement", str(STATEMENT), "--key", str(KEY), "--source", str(WEIGHTS)]
    done = CliRunner().invoke(main, ["verify", str(file), *options])
    return done.exit_code, done.output


def test_the_statements_verify(tmp_path: Path) -> None:
    code, said = verified(QUANT)
    assert (code, "agrees: none of 1 file differs" in said) == (0, True), said
    code, said = verified(relabelled(QUANT, tmp_path / QUANT.name, {"tokenizer.chat_template": text("mended")}))
    assert (code, "weights as attested, metadata changed: tokenizer.chat_template" in said) == (3, True), said
    (tmp_path / QUANT.name).write_bytes(QUANT.read_bytes()[:-40] + bytes([7]) + QUANT.read_bytes()[-39:])
    assert verified(tmp_path / QUANT.name)[0] == 1


def test_the_statements_are_of_today() -> None:
    """Who changes what is attested gives it another name: these are verified for ever, in whatever form comes next."""
    found = [signed_statement(each, KEY) for each in bundled(STATEMENT.read_bytes(), STATEMENT.name)]
    assert [each["predicateType"] for each in found] == [DERIVATION, SVR]
    predicate = found[0]["predicate"]
    assert isinstance(predicate, dict) and fault(predicate, "derivation", "the statement") is None


def test_the_report_is_shown() -> None:
    document = json.loads(REPORT.read_text())
    assert fault(document, "audit", "the report") is None
    assert "每个张量都由 Golden-BF16.gguf 精确推导得出" in as_page(document), "in both languages"
    for form in (as_text(document), as_markdown(document), as_page(document)):
        assert "Golden-Q8_0.gguf" in form and "the types are those of the stock mix" in " ".join(form.split())


def test_the_same_question_has_the_same_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = rendered(audit(Question(str(QUANT), str(WEIGHTS), rows=None))).document
    stored = json.loads(REPORT.read_text())
    differs = {"run", "requant"}
    now = {key: each for key, each in found.items() if key in stored.keys() - differs}
    assert canonical(now) == canonical({key: each for key, each in stored.items() if key not in differs})


def test_manifests_of_version_2_verify_forever(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "manifest.json", tmp_path)
    manifest = read_manifest(tmp_path / "manifest.json")
    assert (manifest.document["schema"], [*disagreements(manifest)]) == ("requant/manifest/v2", [])
    assert manifest.quants[0].weights_root is not None
    write_card(tmp_path / "manifest.json", None, tmp_path / "README.md")
    assert manifest.quants[0].file.sha256 in (tmp_path / "README.md").read_text()
