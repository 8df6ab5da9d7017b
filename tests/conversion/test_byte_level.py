"""requant.conversion.byte_level: what the converter writes of added tokens, beside the library that decodes them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel, Decoder, Fuse, Sequence
from tokenizers.models import BPE

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.conversion.byte_level import BYTES, comes_back
from requant.conversion.metadata import expected_metadata
from support.small_checkpoint import FLAGS, TOKENIZER, checkpoint, header, item, subject

pytestmark = pytest.mark.usefixtures("small_vocabulary")

TOKENS = "tokenizer.ggml.tokens"
DEBUT, LOST = "<|début|>", "<|d\ufffdbut|>"
DECODERS: dict[str, Decoder] = {"ByteLevel": ByteLevel(), "Fuse": Fuse(), "Sequence": Sequence([ByteLevel(), Fuse()])}
LETTERS = st.one_of(st.sampled_from([*BYTES, " ", "日", "\u2581", "\ufffd", "\u00ad"]), st.characters(codec="utf-8"))


@pytest.mark.parametrize("kind", DECODERS)
@given(text=st.one_of(st.text(LETTERS, min_size=1), st.text(st.sampled_from([*BYTES]), min_size=1)))
def test_it_is_what_the_library_gives(kind: str, text: str) -> None:
    library = Tokenizer(BPE(vocab={"a": 0}, merges=[]))
    library.decoder = DECODERS[kind]
    library.add_tokens([AddedToken(text, normalized=False)])
    numbers = library.encode(text, add_special_tokens=False).ids
    found = library.decode(numbers, skip_special_tokens=False)
    steps = {"type": kind, **({"decoders": [{"type": "ByteLevel"}, {"type": "Fuse"}]} if kind == "Sequence" else {})}
    assert comes_back(text, {"decoder": steps}) == found


@pytest.mark.parametrize(
    ("decoder", "found"),
    [(None, DEBUT), ({"type": "Fuse"}, DEBUT), ({"type": "ByteLevel"}, LOST), ({"type": "Metaspace"}, None), (1, None)],
)
def test_other_decoders(decoder: Any, found: str | None) -> None:
    assert comes_back(DEBUT, {"decoder": decoder}) == found
    assert comes_back(DEBUT, None) == LOST, "transformers makes one of vocab.json that has ByteLevel"


def added(normalized: bool = False, **tokenizer: Any) -> dict[str, bytes]:
    token = {"id": 9, "content": DEBUT, "special": True, **FLAGS, "normalized": normalized}
    tokens: Any = TOKENIZER["added_tokens"]
    return checkpoint(tokenizer__json=TOKENIZER | {"added_tokens": [*tokens, token]} | tokenizer)


@pytest.mark.parametrize(("normalized", "text"), [(False, LOST), (True, DEBUT)])
def test_an_added_token_is_written_as_it_comes_back(normalized: bool, text: str) -> None:
    expected = expected_metadata(added(normalized))
    metadata = subject(expected)
    assert metadata[TOKENS].value[9] == text  # type: ignore[index]
    changed = metadata | {TOKENS: item(metadata[TOKENS], 9, "<|other|>")}
    [finding] = [finding for finding in compare_metadata(header(changed), expected).findings if finding.key == TOKENS]
    assert finding.grade is Grade.SERIOUS


def test_one_of_another_decoder_is_unchecked() -> None:
    expected = expected_metadata(added(decoder={"type": "Metaspace"}))
    assert expected.unsure[TOKENS] == {6, 7, 8, 9}, "so that upstream's own converter is used"
    changed = subject(expected) | {TOKENS: item(subject(expected)[TOKENS], 9, LOST)}
    [finding] = [finding for finding in compare_metadata(header(changed), expected).findings if finding.key == TOKENS]
    assert finding.grade is Grade.UNCHECKED


def test_a_space_that_comes_back_may_be_cleaned_up() -> None:
    token = {"id": 9, "content": "\u0120x", "special": False, **FLAGS}
    tokens: Any = TOKENIZER["added_tokens"]
    expected = expected_metadata(checkpoint(tokenizer__json=TOKENIZER | {"added_tokens": [*tokens, token]}))
    assert expected.unsure[TOKENS] == {9}
