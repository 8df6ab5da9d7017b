"""What people are shown of an audit, whatever the form: taken from the document for machines, and from nothing else."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from requant.audit.metadata.comparison import Grade
from requant.audit.weights.unknown_importances import LIKELY, LIKELY_OF_GRIDS
from requant.ground.exit_codes import ExitCode
from requant.ground.text import counted, in_units, listed
from requant.quantization.verdict import Verdict
from requant.quantization.witnesses import EPSILONS

MOST = 20
"""Rows of a list that are shown where space is short; machines get all of them."""
QUESTIONS = ("weights", "recipe", "metadata", "coverage")
RATIOS = ("error_ratio", "worst_ratio")
FILES = "their files"
"""The fact that is too long for a terminal."""
WORST_FIRST = (ExitCode.AGAINST, ExitCode.UNCHECKED, ExitCode.OK)
Document = Mapping[str, Any]


@dataclass(frozen=True)
class Listing:
    """A table of what is not as it should be; ``code`` are the numbers of the columns that hold no sentences."""

    name: str
    head: tuple[str, ...]
    code: frozenset[int]
    rows: list[tuple[str, ...]]


def answers(document: Document) -> Iterator[tuple[str, Document]]:
    """The questions with their answers, in their order."""
    for question in QUESTIONS:
        yield question, document["answers"][question]


def facts(document: Document) -> Iterator[tuple[str, str]]:
    """What was held against what, by name and value."""
    subject, source, imatrix = document["subject"], document["source"], document["imatrix"]
    parts = subject["parts"]
    said = f"{len(parts):,} parts" if parts else digest(subject)
    yield "subject", f"{subject['address']}, {in_units(subject['size'])}, {said}"
    for part in parts:
        yield "part", f"{part['name']}, {in_units(part['size'])}, {digest(part)}"
    via = "" if source["rounded_through"] == "F32" else f", rounded through {source['rounded_through']}"
    yield "weights", f"{source['address']} ({source['form']}), {named_by(source)}{via}"
    yield FILES, listed([f"{file['name']}, {file_digest(file)}" for file in source["files"]], MOST)
    if source["weights_root"]:
        yield "weights root", source["weights_root"]
    yield "imatrix", "none" if imatrix is None else f"{imatrix['name']}, SHA-256 {imatrix['sha256']}"
    if imatrix is not None and "sentence" in imatrix:
        yield "", imatrix["sentence"]
    yield "tensors", tensors(document)
    if any(tensor["verdict"] == Verdict.NEAR for tensor in document["tensors"]):
        yield "near", near_bound(document)
    if consistent := [tensor for tensor in document["tensors"] if tensor["verdict"] == Verdict.CONSISTENT]:
        yield "consistent", consistent_bound(consistent)
    arithmetic = f", arithmetic {document['arithmetic']}" if document["arithmetic"] else ""
    yield "by", f"requant {document['requant']}, llama.cpp {document['toolchain']['commit']}{arithmetic}"
    run = document["run"]
    fetched = f", {in_units(run['bytes_fetched'])} fetched in {run['requests']:,} requests" if run["requests"] else ""
    before = (
        f", {counted(run['derived_before'], 'tensor')} derived before it was broken off"
        if "derived_before" in run
        else ""
    )
    yield "run", f"{date(document)}, {float(run['seconds']):.1f} s{fetched}{before}"


def commands(document: Document) -> Iterator[tuple[str, str]]:
    """Lines for a shell, with what they do."""
    if document["mix"]["command"]:
        yield "makes this mix", shlex.join(document["mix"]["command"])
    yield "asks again", shlex.join(document["command"])


def date(document: Document) -> str:
    """When it was asked, such as ``2026-11-28 14:21:37 UTC``."""
    begun: str = document["run"]["begun"]
    return f"{begun.removesuffix('Z').replace('T', ' ')} UTC"


def digest(subject: Document) -> str:
    """The subject's SHA-256, and whose word that is."""
    by: dict[str, list[str]] = {}
    for who, said in subject["recorded"].items():
        by.setdefault(said, []).append(who)
    read = subject["sha256"]
    parts = [f"SHA-256 {read} (all of it was read)"] if read else []
    unread = "which is not that of what was read" if read else "only recorded, not computed here"
    parts += [f"SHA-256 {said} by {' and '.join(who)}, {unread}" for said, who in by.items() if said != read]
    return ", ".join(parts) or "its SHA-256 is not known"


def file_digest(file: Document) -> str:
    """The SHA-256 of one of the weights' files, and whose word that is."""
    if file["sha256"]:
        return f"SHA-256 {file['sha256']} (read)"
    return f"SHA-256 {file['recorded']} (only recorded by the hub)" if file["recorded"] else "SHA-256 not computed"


def named_by(source: Document) -> str:
    """Who named the weights, in words."""
    how = {
        "user": "the user",
        "subject": "the subject itself",
        "subject, trusted": "the subject itself, which was trusted",
    }
    return f"named by {how[source['named_by']]}"


def tensors(document: Document) -> str:
    """How many there are of each verdict, and how many the quant lacks."""
    counts = document["counts"]
    parts = [f"{counts[verdict]:,} {verdict}" for verdict in Verdict if counts[verdict]]
    missing = [f"{len(document['missing']):,} missing"] if document["missing"] else []
    return ", ".join(parts + missing) or "none"


def near_bound(document: Document) -> str:
    """What ``near`` means here, in numbers."""
    differing, searched = document["blocks"]["differing"], document["blocks"]["searched"]
    used = max(float(tensor["epsilon"]) for tensor in document["tensors"])
    share = 100 * differing / max(searched, 1)
    return (
        f"{differing:,} of {searched:,} blocks differ, {share:.3g} % (about as many as other compilers' rounding "
        f"makes, type by type), each as the search of llama.cpp makes it of numbers changed by at most {used:.2g} of "
        f"themselves ({EPSILONS[-1]:.2g} allowed)"
    )


def consistent_bound(tensors: Sequence[Document]) -> str:
    """What ``consistent`` means here, in numbers."""
    found = [tensor["consistency"] for tensor in tensors]
    ratios = [float(each["error_ratio"]) for each in found]
    return (
        f"none of {sum(each['quants'] for each in found):,} quants contradicts its weight; squared errors are "
        f"{min(ratios):.3g} to {max(ratios):.3g} times those of a derivation without importances "
        f"({LIKELY:g} allowed, {LIKELY_OF_GRIDS:g} of IQ2 and IQ3), in single blocks up to "
        f"{max(float(each['worst_ratio']) for each in found):.3g} times; "
        f"parts of scale 0: {sum(each['flat'] for each in found):,}"
    )


def explained(tensor: Document) -> str:
    """What there is to say about one tensor that is not exact."""
    differing, unexplained = tensor["differing"], tensor["unexplained"]
    if not differing:
        return tensor["reason"] or ""
    if tensor["verdict"] == Verdict.CONSISTENT:
        most, worst = (float(tensor["consistency"][name]) for name in RATIOS)
        said = [f"error at most {most:.4g} of that without importances, {worst:.3g} of it in one block"]
        if found := tensor.get("recovered"):
            said.append(
                f"importances that were read off {found['rows']:,} rows derive {found['derived']:,} of "
                f"{counted(found['blocks'], 'block')} in others, {found['least']:,} of {found['row']:,} in one row"
            )
        return "; ".join([*said, *([tensor["reason"]] if tensor["reason"] else [])])
    differ, their = ("differs", "its") if differing == 1 else ("differ", "their")
    parts = [f"{differing:,} of {counted(tensor['blocks'], 'block')} {differ}"]
    if unexplained:
        parts.append(f"{unexplained:,} without explanation")
    if rounded := tensor["witnessed"] + tensor["otherwise"]:
        parts.append(f"{rounded:,} as rounding would (changes up to {float(tensor['epsilon']):.2g})")
    if tensor["error_ratio"] is not None:
        parts.append(f"{their} error is {float(tensor['error_ratio']):.4g} of the derived")
    places = (tensor["consistency"] or {}).get("first_off") or tensor["examples"]
    parts += [f"first at row {each['row']:,}, column {each['column']:,}" for each in places[:1]]
    return "; ".join(parts + ([tensor["reason"]] if tensor["reason"] else []))


def listings(document: Document) -> Iterator[Listing]:
    """What is not as it should be, if anything is: tensors, then keys, the worst first; harmless ones are left out."""
    if odd := _odd_tensors(document):
        yield Listing("tensors", ("tensor", "type", "verdict", "what"), frozenset({0, 1}), odd)
    if found := _findings(document):
        yield Listing("findings", ("what is said", "grade", "expected", "found"), frozenset({0, 2, 3}), found)


def remarks(document: Document) -> list[str]:
    """What was inferred because nobody named it, and what is missing."""
    missing = document["missing"]
    are = "is" if len(missing) == 1 else "are"
    lost = [f"{counted(len(missing), 'tensor')} {are} missing: {listed(missing, MOST)}"] if missing else []
    return [*document["inferred"], *lost]


def _odd_tensors(document: Document) -> list[tuple[str, ...]]:
    """A row for each tensor that is not exact, and one for all of which the same reason is given."""
    ranks = {str(word): (WORST_FIRST.index(word.exit_code), -place) for place, word in enumerate(Verdict)}
    odd = [tensor for tensor in document["tensors"] if tensor["verdict"] != Verdict.EXACT]
    groups: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for number, tensor in enumerate(sorted(odd, key=lambda tensor: ranks[tensor["verdict"]])):
        groups.setdefault((tensor["verdict"], tensor["reason"] or number), []).append(tensor)
    return [
        (
            listed([tensor["name"] for tensor in alike]),
            listed(list(dict.fromkeys(tensor["type"] for tensor in alike))),
            str(verdict),
            explained(_as_one(alike)),
        )
        for (verdict, _), alike in groups.items()
    ]


def _as_one(tensors: Sequence[dict[str, Any]]) -> Document:
    """What was counted of several tensors, as if they were one."""
    first, *others = tensors
    sums = ("blocks", "differing", "unexplained", "witnessed", "otherwise")
    found: dict[str, Any] = {key: sum(tensor[key] for tensor in tensors) for key in sums}
    found["epsilon"] = max((tensor["epsilon"] for tensor in tensors), key=float)
    if others:
        found |= {"error_ratio": None, "examples": [], "consistency": None}
    if first["verdict"] == Verdict.CONSISTENT:
        said = [tensor["consistency"] for tensor in tensors]
        found["consistency"] = {name: max((each[name] for each in said), key=float) for name in RATIOS}
        if tried := [each for tensor in tensors if (each := tensor.get("recovered"))]:
            last = min(tried, key=lambda each: each["least"] / each["row"])
            found["recovered"] = last | {key: sum(each[key] for each in tried) for key in ("rows", "blocks", "derived")}
    return first | found


def _findings(document: Document) -> list[tuple[str, ...]]:
    """A row for all keys of which the same is said."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for grade in (Grade.SERIOUS, Grade.UNCHECKED):
        for each in document["findings"]:
            if each["grade"] == grade:
                groups.setdefault((each["grade"], each["expected"], each["actual"]), []).append(each["key"])
    return [(listed(keys), *said) for said, keys in groups.items()]
