"""requant.pipeline.fetch_corpus.fetch_corpus, with the real datasets client against the loopback Hub."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from requant.documents.pins import CorpusPin, TextPin
from requant.ground.digests import Known, digest_bytes
from requant.ground.errors import StaleError
from requant.pipeline.fetch_corpus import raw_text, text_digest
from requant.places.hub import proven
from support.files import files_below, known
from support.hub import Fault, LoopbackHub

Library = Callable[..., str]
MIB = 1 << 20
NOBODY, NOWHERE = "0" * 40, "http://127.0.0.1:9"


DATASET, DATA_CONFIG = "Salesforce/wikitext", "wikitext-2-raw-v1"
ROWS = {"train": ["", " = Title = \n", "", " naïve 你好 \n"], "test": ["", " = Test = \n"], "validation": [" x \n"]}


def text_of(split: str) -> bytes:
    return b"".join(raw_text(ROWS[split]))


def text_pin(split: str, data: bytes | None = None) -> TextPin:
    digest = digest_bytes(text_of(split) if data is None else data)
    return TextPin(f"wiki.{split}.raw", split, (), Known(digest.size, digest.sha256))


@dataclass
class Corpus:
    """A data set shaped like Salesforce/wikitext, on the hub."""

    hub: LoopbackHub
    pin: CorpusPin
    out: Path
    library: Library

    def fetch(self, pin: CorpusPin, texts: Mapping[str, TextPin], env: Mapping[str, str] | None = None) -> str:
        record = self.out / "corpus.json"
        said = self.library(
            "requant.pipeline.fetch_corpus.fetch_corpus", pin, texts, self.out, self.out, record, env=env
        )
        assert bool(said) != record.exists()
        return said


@pytest.fixture
def corpus(hub: LoopbackHub, library: Library, tmp_path: Path) -> Corpus:
    root = tmp_path / "wikitext"
    (root / DATA_CONFIG).mkdir(parents=True)
    card = ["---", "configs:", f"- config_name: {DATA_CONFIG}", "  data_files:"]
    for split, rows in ROWS.items():
        card += [f"  - split: {split}", f"    path: {DATA_CONFIG}/{split}-*"]
        parquet.write_table(pyarrow.table({"text": rows}), root / DATA_CONFIG / f"{split}-00000-of-00001.parquet")
    (root / "README.md").write_text("\n".join([*card, "---", ""]))
    files = {path.relative_to(root).as_posix(): known(path) for path in sorted(root.glob("*/*.parquet"))}
    texts = {split: text_pin(split) for split in ("train", "test")}
    commit = hub.add_dataset(DATASET, root).commit
    pin = CorpusPin("wikitext", DATASET, commit, DATA_CONFIG, "CC-BY-SA-3.0", files, texts)
    return Corpus(hub, pin, tmp_path / "results" / "corpus", library)


def test_the_texts_of_a_data_set(corpus: Corpus) -> None:
    assert corpus.fetch(corpus.pin, {"calibration": text_pin("train"), "evaluation": text_pin("test")}) == ""
    assert (
        (corpus.out / "wiki.train.raw").read_bytes() == text_of("train") == " \n = Title = \n \n naïve 你好 \n".encode()
    )
    assert (corpus.out / "wiki.test.raw").read_bytes() == text_of("test")
    record = json.loads((corpus.out / "corpus.json").read_bytes())
    assert record["texts"]["calibration"]["sha256"] == hashlib.sha256(text_of("train")).hexdigest()
    assert [file["name"] for file in record["files"]] == list(corpus.pin.files)
    shutil.rmtree(corpus.out)
    corpus.hub.requests.clear()
    assert corpus.fetch(corpus.pin, {"calibration": text_pin("train")}, env={"HF_HUB_OFFLINE": "1"}) == ""
    assert (corpus.out / "wiki.train.raw").read_bytes() == text_of("train")
    assert not corpus.hub.requests


def test_a_text_that_was_changed_since_is_not_used(corpus: Corpus) -> None:
    corpus.fetch(corpus.pin, {"calibration": text_pin("train"), "evaluation": text_pin("test")})
    text = corpus.out / "wiki.train.raw"
    assert text_digest(text).sha256 == hashlib.sha256(text_of("train")).hexdigest()
    text.write_bytes(text_of("train")[:-1])
    with pytest.raises(
        StaleError, match=r"wiki.train.raw is not the file that its record describes: remove .*corpus\.json"
    ):
        text_digest(text)
    with pytest.raises(StaleError, match=r"corpus\.json does not tell of other\.raw: remove it and run again"):
        text_digest(text.with_name("other.raw"))


def with_wrong_file(pin: CorpusPin) -> CorpusPin:
    files = {name: Known(expected.size, "f" * 64) for name, expected in pin.files.items()}
    return replace(pin, files=files)


CORPORA: dict[str, tuple[Callable[[CorpusPin], CorpusPin], TextPin, str]] = {
    "wrong parquet digest": (
        with_wrong_file,
        text_pin("train"),
        "PinnedBytesError: Salesforce/wikitext/wikitext-2-raw-v1/",
    ),
    "wrong text digest": (
        lambda pin: pin,
        text_pin("train", b"another text"),
        f"PinnedBytesError: wiki.train.raw has {len(text_of('train'))} bytes and SHA-256 ",
    ),
    "unknown split": (
        lambda pin: pin,
        replace(text_pin("train"), split="dev"),
        "does not give split 'dev' of 'wikitext-2-raw-v1': ",
    ),
    "unknown configuration": (lambda pin: replace(pin, config="wikitext-9"), text_pin("train"), "of 'wikitext-9': "),
    "no revision": (
        lambda pin: replace(pin, revision=NOBODY),
        text_pin("train"),
        "does not exist at that commit: correct the pin's revision (404)",
    ),
    "a file is missing": (
        lambda pin: replace(pin, files={"x.parquet": Known(1, "f" * 64)}),
        text_pin("train"),
        "lacks a file of the pin: correct the pin's files (404)",
    ),
}


@pytest.mark.parametrize(("change", "text", "words"), CORPORA.values(), ids=list(CORPORA))
def test_data_sets_that_are_not_the_pinned_ones(
    corpus: Corpus, change: Callable[[CorpusPin], CorpusPin], text: TextPin, words: str
) -> None:
    assert words in corpus.fetch(change(corpus.pin), {"calibration": text})
    assert not corpus.out.exists() or not files_below(corpus.out)


def test_a_damaged_data_file_is_fetched_again(corpus: Corpus) -> None:
    corpus.hub.faults.add(Fault("/cdn/*train*", "corrupt", times=1, after=50))
    assert "these are not the pinned bytes" in corpus.fetch(corpus.pin, {"calibration": text_pin("train")})
    assert corpus.fetch(corpus.pin, {"calibration": text_pin("train")}) == ""


def blobs(folder: Path) -> set[Path]:
    return {path for path in (folder / "hub").glob("datasets--*/blobs/*") if path.is_file()}


def test_what_the_pin_does_not_know_stays_in_the_cache(corpus: Corpus, tmp_path: Path) -> None:
    """It is the user's own, and what the Hub recorded."""
    env = {"HF_HOME": str(tmp_path / "cache")}
    assert corpus.fetch(corpus.pin, {"calibration": text_pin("train")}, env) == ""
    there = blobs(tmp_path / "cache")
    shutil.rmtree(corpus.out)
    said = corpus.fetch(with_wrong_file(corpus.pin), {"calibration": text_pin("train")}, env)
    assert blobs(tmp_path / "cache") == there and there
    assert any(f"it stays in {blob}: correct the pin, or remove that file" in said for blob in there), said


@pytest.mark.skipif(sys.platform != "linux", reason="a file that fails to be read is /proc/self/mem")
def test_a_data_file_that_cannot_be_read_stays_in_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        proven(tmp_path / "file", Known(0), "x")
    assert (tmp_path / "file").is_symlink()


def test_a_data_set_without_network(corpus: Corpus) -> None:
    said = corpus.fetch(corpus.pin, {"calibration": text_pin("train")}, env={"HF_ENDPOINT": NOWHERE})
    assert f"on {NOWHERE} cannot be reached: name a mirror in HF_ENDPOINT" in said
