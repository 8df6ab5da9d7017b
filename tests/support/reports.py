"""Reports of audits without an audit: of one tensor, and with whatever is to be found in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from requant.audit.answers import Coverage, MetadataAnswer
from requant.audit.metadata.comparison import Grade, MetadataFinding
from requant.audit.named_weights import open_weights
from requant.audit.recipe.mix import RecipeAnswer
from requant.audit.report import Report
from requant.audit.status import Mix
from requant.audit.subject.identity import FileIdentity, Identity
from requant.audit.subject.subject import open_subject
from requant.audit.weights.sweep import Sweep
from requant.audit.weights.tensor import TensorAudit
from requant.documents.pins import TABLE, read_pins
from requant.formats.ggml import Arithmetic
from requant.formats.ggml import GGMLType as T
from requant.formats.gguf import Tensor
from requant.places.remote import Traffic
from requant.quantization.consistency import Consistency
from requant.quantization.derivation import Odd, Tally
from requant.quantization.verdict import Verdict
from support.quants import written

EXACT, NEAR, CONSISTENT, MISMATCH, UNCHECKED = Verdict
STOCK = RecipeAnswer(Mix.STOCK, "the types are those of the stock mix Q4_1", "Q4_1", 5.0, 5.0)
CUSTOM = RecipeAnswer(Mix.CUSTOM, "a custom mix", "Q4_1", 5.5, 5.0, ("llama-quantize", "--tensor-type", "a|b=q8_0"))
EVIL = "[bold]<b>*a*|`x`</b>.weight"


def tensors(*verdicts: Verdict, name: str = "a.weight") -> tuple[TensorAudit, ...]:
    """Tensors with these verdicts, and as many odd blocks as they ask for."""
    differs = {"rows": 1, "blocks": 8, "derived_error": 1.0}
    found = Consistency(256, flat=1, blocks=8, error=4.5, derived_error=4.0, power=99.0, worst=1.75)
    tallies = {
        EXACT: Tally(1, 8), UNCHECKED: Tally(),
        NEAR: Tally(**differs, differing=1, witnessed=1, epsilon=2.0**-23, error=1.5),
        CONSISTENT: Tally(**differs, differing=8, unexplained=8, consistency=found),
        MISMATCH: Tally(**differs, differing=2, unexplained=2, error=3.0, odd=[Odd(3, 32, 1, 20, 3.0)]),
    }  # fmt: skip
    return tuple(
        TensorAudit(Tensor(name, (256, 1), T.Q4_1, 0, 160), tally=tallies[verdict], verdict=verdict)
        for verdict in verdicts
    )


def finding(grade: Grade, key: str = "general.name") -> MetadataFinding:
    return MetadataFinding(key, grade, "a", "b", f"{key} differs")


@contextmanager
def good_report(folder: Path) -> Iterator[Report]:
    """A full audit that found nothing."""
    subject = open_subject(str(written(folder / "quant.gguf", {"a.weight": (T.Q4_1, (256, 1), bytes(160))})))
    weights = open_weights(str(written(folder / "f32.gguf", {"a.weight": (T.F32, (256, 1), bytes(1024))})))
    yield Report(
        subject=subject,
        weights=weights,
        toolchain=next(iter(read_pins(TABLE).toolchains.values())),
        sweep=Sweep(tensors(EXACT), Arithmetic.FUSED, T.F32, (), 8, 0),
        recipe=STOCK,
        metadata=MetadataAnswer(()),
        coverage=Coverage(None, None, 1, 1),
        identity=Identity((FileIdentity("quant.gguf", 1, "0" * 64),)),
        named=True,
        trusted=False,
        inferred=(),
        exact=False,
        command=("requant", "audit", "./quant.gguf", "--full"),
        traffic=Traffic(),
        begun=datetime(2026, 11, 28, 14, 21, 37, tzinfo=UTC),
        seconds=1.25,
    )
    subject.place.close()
    weights.place.close()


KINDS = ("attn_k", "attn_k_norm", "attn_norm", "attn_output", "attn_q", "attn_q_norm", "attn_v", "ffn_down", "ffn_gate",
         "ffn_norm", "ffn_up")  # fmt: skip


def large(report: Report, layers: int = 36) -> Report:
    """A model of so many layers, in which something of every kind is to be found."""
    names = [f"blk.{layer}.{kind}.weight" for layer in range(layers) for kind in KINDS]
    odd = {names[77]: MISMATCH, names[91]: MISMATCH} | dict.fromkeys(names[200:320:11], UNCHECKED)
    odd |= dict.fromkeys(names[30:90:12], NEAR)
    found = [each for name in ("token_embd.weight", *names) for each in tensors(odd.get(name, EXACT), name=name)]
    for each in found:
        each.reason = "its importance matrix is not at hand" if each.verdict is UNCHECKED else None
    findings = tuple(finding(grade, f"tokenizer.{grade}") for grade in Grade)
    said = {"the hub": "1" * 64}
    return replace(
        report, sweep=replace(report.sweep, tensors=tuple(found), missing=("rope_freqs.weight",)),
        metadata=MetadataAnswer(findings), coverage=Coverage(2**63, {}, 1024, 162_176), identity=Identity((FileIdentity("quant.gguf", 1, None, said),)),
        inferred=("it was quantized as Q4_1, as general.file_type says",),
    )  # fmt: skip
