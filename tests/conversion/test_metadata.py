"""requant.conversion.metadata and requant.conversion.vocabulary: what follows from a checkpoint, what is uncertain, and what cannot be."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requant.audit.metadata.comparison import Grade, compare_metadata
from requant.conversion.metadata import expected_metadata
from requant.formats.ggml import ValueType
from requant.formats.gguf import Field
from requant.ground.errors import FormatError, RequantError, UnsupportedError
from support.relabelled import text
from support.small_checkpoint import (
    CONFIG,
    FLAGS,
    SETTINGS,
    SLOW,
    SUBJECT,
    TEMPLATE,
    TOKENIZER,
    checkpoint,
    header,
    item,
    subject,
)
from support.vocabularies import SETTINGS as LLAMA_SETTINGS
from support.vocabularies import VOCABULARIES
from support.vocabularies import files as written

pytestmark = pytest.mark.usefixtures("small_vocabulary")


POOLING = {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}
UNKNOWN = {
    "sentencepiece": (checkpoint(tokenizer__model=b""), "tokenizer.ggml.tokens"),
    "no tokenizer": (checkpoint(tokenizer__json=None), "tokenizer.ggml.tokens"),
    "unigram": (checkpoint(tokenizer__json={"model": {"type": "Unigram"}}), "tokenizer.ggml.model"),
    "slow and strange": (checkpoint(**SLOW, tokenizer_config__json=SETTINGS | {"tokenizer_class": "X"}), "tokenizer.ggml.merges"),
    "tekken": (checkpoint(tokenizer__json=None, tekken__json=b"{}"), "tokenizer.chat_template"),
    "pre-tokenizer": (checkpoint(tokenizer__json=TOKENIZER | {"pre_tokenizer": {"type": "ByteLevel"}}), "tokenizer.ggml.pre"),
    "other class": (checkpoint(tokenizer_config__json=SETTINGS | {"tokenizer_class": "LlamaTokenizerFast"}), "tokenizer.ggml.pre"),
    "named but missing token": (checkpoint(tokenizer_config__json=SETTINGS | {"unk_token": "<unk>"}), "tokenizer.ggml.tokens"),
    "bos asked for": (checkpoint(tokenizer_config__json=SETTINGS | {"add_bos_token": True}), "tokenizer.ggml.add_bos_token"),
    "strange roberta": (checkpoint(tokenizer__json=TOKENIZER | {"post_processor": {"type": "RobertaProcessing", "cls": []}}), "tokenizer.ggml.add_sep_token"),
    "strange template": (checkpoint(tokenizer__json=TOKENIZER | {"post_processor": {"type": "TemplateProcessing", "single": [1]}}), "tokenizer.ggml.eos_token_id"),
    "lower case": (checkpoint(tokenizer__json=TOKENIZER | {"normalizer": {"type": "Lowercase"}}), "tokenizer.ggml.normalizer.lowercase"),
    "longrope": (checkpoint(config__json=CONFIG | {"rope_scaling": {"rope_type": "longrope"}}), "qwen3.rope.scaling.type"),
    "mrope": (checkpoint(config__json=CONFIG | {"rope_scaling": {"mrope_section": [1]}}), "qwen3.rope.freq_base"),
    "local rope": (checkpoint(config__json=CONFIG | {"local_rope_theta": 1e4}), "qwen3.rope.freq_base_swa"),
    "no context": (checkpoint(config__json={key: value for key, value in CONFIG.items() if key != "max_position_embeddings"}), "qwen3.context_length"),
    "pooling that is missing": (checkpoint(modules__json=[POOLING]), "qwen3.pooling_type"),
    "pooling of another kind": (checkpoint(modules__json=[POOLING], **{"1_Pooling/config__json": {"pooling_mode_max_tokens": True}}), "qwen3.pooling_type"),
    "broken generation config": (checkpoint(generation_config__json=b"{"), "general.sampling.temp"),
    "strange temperature": (checkpoint(generation_config__json={"temperature": "hot"}), "general.sampling.temp"),
    "huge temperature": (checkpoint(generation_config__json={"temperature": 1e300}), "general.sampling.temp"),
    "fractional top_k": (checkpoint(generation_config__json={"top_k": 2.5}), "general.sampling.top_k"),
    "a tokenizer of Llama's that transformers makes anew": (VOCABULARIES["tokenizer.json alone"] | written(tokenizer_config__json=LLAMA_SETTINGS | {"add_prefix_space": True}), "tokenizer.ggml.tokens"),
    "ends of texts beside a broken generation config": (checkpoint(generation_config__json=b"{"), "tokenizer.ggml.eos_token_ids"),
    "a negative id": (checkpoint(config__json=CONFIG | {"pad_token_id": -1}, tokenizer_config__json=SETTINGS | {"pad_token": None}), "tokenizer.ggml.padding_token_id"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "key"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_uncertain_is_unchecked_and_never_different(files: dict[str, bytes], key: str) -> None:
    expected = expected_metadata(files)
    assert key not in expected.values
    comparison = compare_metadata(header({key: text("anything")}), expected)
    [finding] = [finding for finding in comparison.findings if finding.key == key]
    assert finding.grade is Grade.UNCHECKED
    assert finding.sentence.startswith(f"{key} cannot be checked: ")


def test_tokens_about_which_the_files_disagree() -> None:
    decoder = {**SETTINGS["added_tokens_decoder"], "8": {"content": "<think>", "special": True, **FLAGS}}  # type: ignore[dict-item]
    expected = expected_metadata(checkpoint(tokenizer_config__json=SETTINGS | {"added_tokens_decoder": decoder}))
    metadata = subject(expected)
    key = "tokenizer.ggml.token_type"
    for number, grade in ((8, Grade.UNCHECKED), (7, Grade.SERIOUS)):
        changed = metadata | {key: item(metadata[key], number, 6)}
        [finding] = [finding for finding in compare_metadata(header(changed), expected).findings if finding.key == key]
        assert finding.grade is grade


def test_an_older_file_of_added_tokens_that_no_other_confirms() -> None:
    assert expected_metadata(checkpoint(added_tokens__json={"<think>": 8})).unsure["tokenizer.ggml.tokens"] == set()
    assert expected_metadata(checkpoint(added_tokens__json={"<x>": 8, "<y>": 9})).unsure["tokenizer.ggml.tokens"] == {
        8,
        9,
    }


def test_rope_scaling() -> None:
    yarn = {
        "type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 1024,
        "beta_fast": 16,
        "attention_factor": 2,
        "attn_factor": 3,
    }
    values = expected_metadata(checkpoint(config__json=CONFIG | {"rope_scaling": yarn})).values
    assert {key[len("qwen3.rope.scaling.") :]: field.value for key, field in values.items() if ".scaling." in key} == {
        "type": "yarn", "factor": 4.0, "original_context_length": 1024, "yarn_beta_fast": 16.0, "yarn_attn_factor": 2.0,
    }  # fmt: skip
    hidden = checkpoint(config__json=CONFIG | {"rope_scaling": yarn | {"attention_factor": None}})
    assert "qwen3.rope.scaling.yarn_attn_factor" not in expected_metadata(hidden).values
    linear = expected_metadata(
        checkpoint(config__json=CONFIG | {"rope_scaling": {"type": "linear", "factor": 2}})
    ).values
    assert linear["qwen3.rope.scaling.factor"] == Field(ValueType.FLOAT32, 2.0)
    default = {key: value for key, value in CONFIG.items() if key != "rope_theta"}
    assert "qwen3.rope.freq_base" in expected_metadata(checkpoint(config__json=default)).optional


BASE = "qwen3.rope.freq_base"
NO_BASE = {key: value for key, value in CONFIG.items() if key != "rope_theta"}


@pytest.mark.parametrize(("config", "grades"), [
    (NO_BASE | {"rope_theta": None}, [None, None, Grade.SERIOUS]),
    (NO_BASE | {"rope_parameters": {"rope_theta": None}}, [None, None, Grade.SERIOUS]),
    (CONFIG | {"rope_parameters": {"rope_theta": None}}, [None, Grade.UNCHECKED, Grade.UNCHECKED]),
    (CONFIG, [Grade.SERIOUS, Grade.SERIOUS, None]),
], ids=["null", "null among the parameters", "null beside a number", "a number"])  # fmt: skip
def test_a_rope_base_that_is_null(config: dict[str, object], grades: list[Grade | None]) -> None:
    """The converter writes none; a file may have none, or the one that llama.cpp assumes, and no other passes."""
    expected = expected_metadata(checkpoint(config__json=config))
    assert (BASE in expected.unknown) == (config is not CONFIG), "which the writer refuses"
    kept = {key: field for key, field in subject(expected).items() if key != BASE}
    for value, grade in zip((None, 1e4, 1e6), grades, strict=True):
        changed = kept | ({} if value is None else {BASE: Field(ValueType.FLOAT32, value)})
        found = {each.key: each.grade for each in compare_metadata(header(changed), expected).findings}
        assert found.get(BASE) in (grade, None if grade else Grade.HARMLESS)


def test_a_tokenizer_as_llama_3_has_it() -> None:
    start = {"SpecialToken": {"id": "<|endoftext|>"}}
    a, b = {"Sequence": {"id": "A"}}, {"Sequence": {"id": "B"}}
    template = {"type": "TemplateProcessing", "single": [start, a], "pair": [start, a, start, b]}
    config = CONFIG | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    expected = expected_metadata(checkpoint(
        config__json=config,
        tokenizer__json=TOKENIZER | {"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}},
        tokenizer_config__json={key: value for key, value in SETTINGS.items() if key != "add_bos_token"}
        | {"bos_token": {"content": "<|endoftext|>"}, "add_prefix_space": False},
    ))  # fmt: skip
    flags = {
        kind: expected.values[f"tokenizer.ggml.add_{kind}"].value
        for kind in ("bos_token", "eos_token", "sep_token", "space_prefix")
    }
    assert flags == {"bos_token": True, "eos_token": False, "sep_token": False, "space_prefix": False}
    assert "tokenizer.ggml.add_bos_token" not in expected.optional
    assert expected.unknown.keys() == {"tokenizer.ggml.pre"}
    assert {"llama.vocab_size", "llama.rope.dimension_count"} <= expected.optional


def test_templates_in_files_of_their_own() -> None:
    bare = {key: value for key, value in SETTINGS.items() if key != "chat_template"}
    jinja = {"chat_template__jinja": b"a\r\nb", "chat_template__json": {"chat_template": "json"}}
    for settings, files, expected in (
        (SETTINGS, jinja, TEMPLATE), (bare, jinja, "a\nb"), (bare, {"chat_template__json": jinja["chat_template__json"]}, "json"),
    ):  # fmt: skip
        values = expected_metadata(checkpoint(tokenizer_config__json=settings, **files)).values  # type: ignore[arg-type]
        assert values["tokenizer.chat_template"].value == expected
    several = [
        {"name": "default", "template": "x"},
        {"name": "tool use", "template": "y"},
        {"name": "a", "template": ""},
    ]
    values = expected_metadata(checkpoint(tokenizer_config__json=bare | {"chat_template": several})).values
    assert (values["tokenizer.chat_template"].value, values["tokenizer.chat_template.tool_use"].value) == ("x", "y")
    assert values["tokenizer.chat_templates"].value == ["a", "tool_use"]


def test_pooling() -> None:
    for settings, number in (
        ({"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True}, 1),
        ({"pooling_mode": "lasttoken"}, 3),
    ):
        given = {"1_Pooling/config__json": settings}
        values = expected_metadata(
            checkpoint(modules__json=[{"type": "x.Transformer", "path": ""}, POOLING], **given)
        ).values
        assert values["qwen3.pooling_type"] == Field(ValueType.UINT32, number)


MODEL = TOKENIZER["model"]
BROKEN = {
    "no config": (checkpoint(config__json=None), "has no config.json"),
    "config is no JSON": (checkpoint(config__json=b"{"), "config.json is not valid JSON"),
    "a billion layers": (checkpoint(config__json=CONFIG | {"num_hidden_layers": 10**9}), "num_hidden_layers"),
    "huge context": (checkpoint(config__json=CONFIG | {"max_position_embeddings": 10**20}), "max_position_embeddings"),
    "context is text": (checkpoint(config__json=CONFIG | {"max_position_embeddings": "4096"}), "max_position_embeddings"),
    "huge rope base": (checkpoint(config__json=CONFIG | {"rope_theta": 10**400}), "rope_theta"),
    "rope base is a list": (checkpoint(config__json=CONFIG | {"rope_theta": [1]}), "rope_theta"),
    "deep": (checkpoint(tokenizer__json=b'{"model":' + b"[" * 200_000), "tokenizer.json is not valid JSON"),
    "tokenizer is a list": (checkpoint(tokenizer__json=[]), "tokenizer.json is not a JSON object"),
    "settings are text": (checkpoint(tokenizer_config__json=b'"x"'), "tokenizer_config.json is not a JSON object"),
    "vocab is a list": (checkpoint(tokenizer__json=None, vocab__json=[], merges__txt=b""), "vocab.json is not a JSON object"),
    "id is text": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"vocab": {"a": "0"}}}), "tokenizer.json gives 'a' no id"),
    "id beyond the rows": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"vocab": {"a\x1b": 10**9}}}), r"gives 'a\x1b' no id"),
    "one id twice": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"vocab": {"a": 0, "b": 0}}}), "several tokens the same id"),
    "no merges": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"merges": None}}), "no list of merges"),
    "triple merge": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"merges": [["a", "b", "c"]]}}), "a merge that is no pair"),
    "merge is a number": (checkpoint(tokenizer__json=TOKENIZER | {"model": MODEL | {"merges": [1]}}), "a merge that is no pair"),
    "merges are no text": (checkpoint(**SLOW | {"merges__txt": b"\xff"}), "merges.txt is not UTF-8"),
    "added tokens are an object": (checkpoint(tokenizer__json=TOKENIZER | {"added_tokens": {}}), "added_tokens that are no list"),
    "added token without id": (checkpoint(tokenizer__json=TOKENIZER | {"added_tokens": [{"content": "x"}]}), "tokenizer.json has an added token"),
    "added token far off": (checkpoint(tokenizer_config__json=SETTINGS | {"added_tokens_decoder": {"9" * 5000: {"content": "x"}}}), "tokenizer_config.json has an added token"),
    "added token is a number": (checkpoint(tokenizer_config__json=SETTINGS | {"added_tokens_decoder": {"6": 6}}), "tokenizer_config.json has an added token"),
    "another added_tokens.json": (checkpoint(added_tokens__json={"<x>": 99}), "added_tokens.json gives '<x>' no id"),
    "template is no text": (checkpoint(chat_template__jinja=b"\xff"), "chat_template.jinja is not UTF-8"),
    "template without a name": (checkpoint(tokenizer_config__json=SETTINGS | {"chat_template": [1]}), "a chat_template without name"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "said"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_is_named(files: dict[str, bytes], said: str) -> None:
    with pytest.raises(FormatError) as caught:
        expected_metadata(files)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_reranker_is_refused() -> None:
    """By the same names as upstream's converter does, which looks at Qwen3 alone."""
    readme = b"---\n---\n# Qwen3-Reranker-0.6B\n"
    named = CONFIG | {"_name_or_path": "/data/Qwen3-VL-Reranker-2B/checkpoint"}
    for files in (checkpoint(README__md=readme), checkpoint(config__json=named)):
        with pytest.raises(UnsupportedError, match="reranker"):
            expected_metadata(files)
    assert expected_metadata(
        checkpoint(README__md=b"See qwen3-reranker.", config__json=CONFIG | {"_name_or_path": "x"})
    )
    assert expected_metadata(VOCABULARIES["Llama 2"] | {"README.md": readme})


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
JUNK = VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.text(max_size=2), VALUES, max_size=2)


@given(
    st.sampled_from(["config__json", "tokenizer__json", "tokenizer_config__json", "generation_config__json"]), st.data()
)
def test_no_file_gives_another_exception(name: str, data: st.DataObject) -> None:
    whole = json.loads(checkpoint()[name.replace("__", ".")])
    key = data.draw(st.sampled_from([*whole]))
    if isinstance(whole[key], dict) and whole[key] and data.draw(st.booleans()):
        whole[key][data.draw(st.sampled_from([*whole[key]]))] = data.draw(JUNK)
    else:
        whole[key] = data.draw(JUNK)
    with suppress(RequantError):
        expected = expected_metadata(checkpoint(**{name: whole}))
        compare_metadata(header(SUBJECT), expected)
