"""Everything of requant that parses bytes from outside, as functions of such bytes, for every kind of fuzzing.

Whatever the bytes are, a target returns: it lets nothing out but what is wrong with requant, and a refusal counts as
wrong too if it is not one printable sentence. It also must not hang, nor take memory out of proportion.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fuzz import seeds
from requant.audit.attested import verify_statement
from requant.audit.metadata.comparison import compare_making, compare_metadata, expected_from_gguf
from requant.audit.recipe.mix import Made, about_label, answer_mix, with_findings
from requant.audit.recipe.sanity import Sanity, sanity_of
from requant.audit.subject.claims import infer
from requant.conversion.layout import CONFIG, plan, read_config
from requant.conversion.metadata import FILES, expected_metadata
from requant.conversion.pieces import MODEL
from requant.documents.file_names import ATTESTATION, CARD, MANIFEST, SUMS
from requant.formats.ggml import GGMLType
from requant.formats.gguf import Header, read_header
from requant.formats.gguf_parts import files_of, read_gguf
from requant.formats.imatrix import check_run, importance, read_imatrix
from requant.formats.legacy_imatrix import START, is_legacy
from requant.formats.ranged import as_file
from requant.formats.safetensors import INDEX, read_checkpoint, read_safetensors, rows_as_float32
from requant.formats.sentencepiece import read_pieces
from requant.ground.canonical import canonical, parse
from requant.ground.digests import digest_bytes
from requant.ground.errors import RequantError
from requant.quantization.mix import Model
from requant.release.attestation import PAYLOAD_TYPE, Envelope, read_envelope, verify_with
from requant.release.folder import list_release
from requant.release.verify import verify_release
from requant.release.verify_verdict import as_document, as_text
from support.memory_file import Memory

LONGEST_SENTENCE = 2000


@contextmanager
def refusals() -> Iterator[None]:
    """Let errors that requant raises on purpose pass, if each is one sentence that does nothing to a terminal."""
    try:
        yield
    except RequantError as error:
        sentence = str(error)
        assert sentence.isprintable(), f"not one printable line: {sentence[:LONGEST_SENTENCE]!r}"
        assert len(sentence) <= LONGEST_SENTENCE, f"not a sentence but {len(sentence):,} characters"


def gguf(data: bytes) -> None:
    """The header of a GGUF file, read in pieces."""
    with refusals():
        for tensor in read_header(as_file(Memory(data)), "x.gguf").tensors:
            assert 0 <= tensor.offset <= tensor.offset + tensor.nbytes <= len(data)


def part(data: bytes) -> None:
    """The second of two parts of a model."""
    first, second = seeds.PARTS
    with refusals():
        file, header = read_gguf(Folder({first: seeds.PARTS[first], second: data}), second)
        assert all(file.size >= each.offset + each.nbytes for each in header.tensors)
        assert sum(own.size for _, own in files_of(header)) == file.size


def metadata(data: bytes) -> None:
    """What a GGUF file says about itself, beside what its weights or another file would say."""
    with refusals():
        subject = read_header(io.BytesIO(data), "x.gguf")
        known = seeds.header()
        for one, expected in (
            (subject, seeds.expected()), (subject, expected_from_gguf(known)), (known, expected_from_gguf(subject)),
            (subject, expected_from_gguf(_backwards(subject))),
        ):  # fmt: skip
            for finding in compare_metadata(one, expected).findings:
                assert (finding.expected + finding.actual + finding.sentence).isprintable()
        assert "".join(infer(subject).sentences).isprintable()
        _recipe(subject, known)


def _recipe(subject: Header, known: Header) -> None:
    """What a GGUF file says about its making, with its own tensors and another's as the weights."""
    said = infer(subject)
    for source in (subject, known):
        weights = {tensor.name: (tensor.shape, GGMLType.BF16) for tensor in source.tensors}
        model = Model(said.architecture or "llama", 2, 4, 2)
        mix = answer_mix(
            Made(subject.tensors, weights, model, said.file_type, "x-Q4_K_M.gguf", bool(said.imatrix_file))
        )
        found = with_findings(mix, None, [*mix.findings, *about_label(subject), *compare_making(subject)])
        assert " ".join([found.sentence, *found.command, *(each.sentence for each in found.findings)]).isprintable()


def _backwards(header: Header) -> Header:
    """The same keys with other values."""
    fields = {
        key: replace(field, value=field.value[::-1] if hasattr(field.value, "__len__") else field.value)
        for key, field in header.metadata.items()
    }
    return replace(header, metadata=fields)


def imatrix(data: bytes) -> None:
    """An importance matrix, values and all."""
    with refusals():
        found = read_imatrix(io.BytesIO(data), "x.gguf")
        assert all(np.isfinite(entry.in_sum2).all() for entry in found.entries.values())
        check_run(found, 2, 8, "calibration.txt")


def legacy_imatrix(data: bytes) -> None:
    """An importance matrix in the old format, and how it looks."""
    with refusals():
        if not is_legacy(data[:START]):
            return
        found = read_imatrix(io.BytesIO(data), "x.dat")
        importances = {name: importance(entry) for name, entry in found.entries.items()}
        assert all(np.isfinite(values).all() for values in importances.values())
        numbers = Sanity(len(importances), sanity_of(importances, {}))
        assert all(finding.sentence.isprintable() for finding in numbers.findings())
        canonical(numbers.document())


def safetensors(data: bytes) -> None:
    """One safetensors file: its header, and all rows of the tensors that can be read."""
    with refusals():
        for stored in read_safetensors(Memory(data)).values():
            assert 0 <= stored.offset <= stored.offset + stored.nbytes <= len(data)
            if not stored.unchecked:
                rows_as_float32(stored, slice(None))


@dataclass
class Folder:
    """Files in memory, as a place."""

    files: Mapping[str, bytes]
    shown: str = "org/weights"

    @property
    def names(self) -> list[str]:
        return sorted(self.files)

    def open(self, name: str) -> Memory:
        return Memory(self.files[name])


def index(data: bytes) -> None:
    """The index of a checkpoint of two files."""
    with refusals():
        read_checkpoint(Folder({**seeds.SHARDS, INDEX: data}))


def config(data: bytes) -> None:
    """A config.json."""
    with refusals():
        for stored in (None, seeds.STORED):
            with refusals():
                for origin in plan(read_config(data), stored).tensors.values():
                    origin.rows(np.arange(min(origin.shape[-1], 4)))
        expected_metadata({CONFIG: data})


def tokenizer(data: bytes) -> None:
    """The small files of a checkpoint: an object that gives contents by name, or the bytes in the place of each."""
    with suppress(RequantError):
        found = parse(data, "x.json")
        if isinstance(found, dict):
            files = {name: _contents(value) for name, value in found.items()}
            with refusals():
                expected_metadata({CONFIG: seeds.CONFIG_FILE, **files})
            return
    for name in FILES[1:]:
        with refusals():
            expected_metadata({**seeds.TOKENIZER_FILES, CONFIG: seeds.CONFIG_FILE, name: data})


def pieces(data: bytes) -> None:
    """A SentencePiece model, by itself and as the vocabulary of a checkpoint."""
    with refusals():
        for piece in read_pieces(data, MODEL):
            assert piece.text
            assert piece.text.encode()
    with refusals():
        expected = expected_metadata({**seeds.vocabularies.VOCABULARIES["added_tokens_decoder"], MODEL: data})
        assert all(reason.isprintable() for reason in expected.unknown.values())


def _contents(value: object) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode(errors="surrogatepass")


def sums(data: bytes) -> None:
    """The sums of a release."""
    with _folder({SUMS: data, "a": b"a"}) as folder:
        with refusals():
            list_release(folder)
        _verify(folder)


def manifest(data: bytes) -> None:
    """A manifest, beside the card of another one; no other file is there."""
    for form in _forms(data):
        with _folder({MANIFEST: form, CARD: seeds.card()}) as folder:
            _add_sums(folder)
            _verify(folder)


def attestation(data: bytes) -> None:
    """An attestation, with a key that signed it and with nobody's, beside a manifest."""
    for form in _forms(data):
        with refusals():
            verify_with(seeds.public_key(), form, ATTESTATION)
        with refusals():
            read_envelope(form, ATTESTATION)
            with _folder({MANIFEST: seeds.manifest()}) as folder:
                _add_sums(folder)
                (folder / ATTESTATION).write_bytes(form)
                _verify(folder)


def bundle(data: bytes) -> None:
    """A bundle of statements about an audit, held against a file that none of them knows."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "x.gguf").write_bytes(seeds.MODEL)
        for form in _forms(data):
            (folder / "bundle").write_bytes(form)
            with refusals():
                found = verify_statement(folder / "x.gguf", folder / "bundle", None, "0" * 64)
                assert as_text(found) and canonical(as_document(found))


def derivation(data: bytes) -> None:
    """The predicate of such a statement, under a signature."""
    for form in _forms(data):
        with suppress(RequantError):
            bundle(seeds.envelope(canonical(seeds.attested(parse(form, "predicate")))))


def statement(data: bytes) -> None:
    """A statement, under a signature that is right."""
    for form in _forms(data):
        envelope = Envelope(form, PAYLOAD_TYPE, {})
        envelope.sign(seeds.signer())
        attestation(canonical(envelope.to_dict()))


def _forms(data: bytes) -> Iterator[bytes]:
    """The bytes, and if they are JSON the canonical form of that, which gets further."""
    yield data
    with suppress(RequantError):
        form = canonical(parse(data, "x.json"))
        if form != data:
            yield form


@contextmanager
def _folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        yield folder


def _add_sums(folder: Path) -> None:
    lines = [f"{digest_bytes(path.read_bytes()).sha256}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(lines))


def _verify(folder: Path) -> None:
    with refusals():
        found = verify_release(folder)
        assert all(line.isprintable() for line in as_text(found).split("\n"))
        canonical(as_document(found))


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        gguf, part, metadata, imatrix, legacy_imatrix, safetensors, index, config, tokenizer, pieces, sums, manifest, attestation,
        statement, bundle, derivation,
    )
}  # fmt: skip
