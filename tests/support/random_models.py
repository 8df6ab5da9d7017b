"""Small random checkpoints of many architectures; a program run in the converter's environment, which has transformers.

    python random_models.py REQUEST.json

gives each folder a config.json, a model.safetensors with the names and shapes that transformers gives such a model (on
its meta device) or that the request lists, seeded weights, and the smallest tokenizer that upstream recognises: a
SentencePiece model trained here, or the byte-pair vocabulary of GPT-2 from llama.cpp's tests. Upstream's converter then
makes a BF16 GGUF of it, beside the folder; what it refuses is said in a file ``.error`` there.
"""

import json
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from packed_models import packed
from safetensors.torch import save_file

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|startoftext|>",
    "<pad>", "<|eos|>", "<|return|>", "<|start|>", "<|end|>", "[gMASK]", "<sop>", "<unk>",
)  # fmt: skip


def main(request: dict[str, Any]) -> None:
    tree = Path(request["tree"])
    for folder, case in request["models"].items():
        place = Path(folder)
        place.mkdir(parents=True)
        try:
            write_weights(place, case)
            if case["tokenizer"] in ("spm", "unigram", "pieces"):
                write_pieces(place, case["rows"], case["tokenizer"])
            elif case["tokenizer"] == "words":
                write_words(place, tree / "models" / "ggml-vocab-bert-bge.gguf")
            else:
                gpt2 = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True}
                settings = gpt2 if case["tokenizer"] == "gpt2" else {"tokenizer_class": "PreTrainedTokenizerFast"}
                write_bytes(place, tree / "models" / "ggml-vocab-gpt-2.gguf", settings)
            sys.argv = [
                "convert_hf_to_gguf.py",
                folder,
                "--outfile",
                f"{folder}.gguf",
                "--outtype",
                "bf16",
                *case["options"],
            ]
            # Its options are kept in its classes.
            for module in [module for module in sys.modules if module.split(".")[0] == "conversion"]:
                del sys.modules[module]
            runpy.run_path(str(tree / "convert_hf_to_gguf.py"), run_name="__main__")
        except (Exception, SystemExit):  # noqa: BLE001 - whatever transformers or upstream raise
            Path(f"{folder}.error").write_text(traceback.format_exc())


def write_weights(folder: Path, case: dict[str, Any]) -> None:
    """Config and weights: BF16, F32 where ``dtype`` says so, or packed."""
    import transformers

    config = case["config"]
    if case["shapes"] is None:
        made = transformers.AutoConfig.for_model(case["model_type"], **config)
        with torch.device("meta"):
            model = getattr(transformers, case["made_by"])(made)
        tied = {
            key
            for key in getattr(model, "_tied_weights_keys", None) or ()
            if made.get_text_config().tie_word_embeddings
        }
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
        document = made.to_dict() | {"architectures": [case["architecture"]]}
    else:
        shapes = {name: tuple(shape) for name, shape in case["shapes"].items()}
        document = config | {"architectures": [case["architecture"]], "model_type": case["model_type"]}
    random, kind = np.random.default_rng(0), getattr(torch, case["dtype"])
    weights = {}
    for name, shape in sorted(shapes.items()):
        values = torch.from_numpy(random.standard_normal(shape, np.float32) / 8)
        # Some are logarithms, of which the converter takes the exponential.
        weights[name] = (values.abs() if name.endswith("A_log") else values).to(kind).contiguous()
    if case["packed"]:
        weights = packed(case["packed"], weights, document)
    (folder / "config.json").write_text(json.dumps(document, default=str))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def write_pieces(folder: Path, rows: int, kind: str) -> None:
    """A SentencePiece vocabulary of exactly as many pieces as the embedding has rows, or the same as a tokenizer.json."""
    import sentencepiece

    text = [
        " ".join(f"{'abcdefghij'[(i * k) % 10]}{'klmnopqr'[(i + k) % 8]}{i % 7}{k}" for k in range(12))
        for i in range(400)
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(folder / "tokenizer"), vocab_size=rows, model_type="unigram" if kind == "unigram" else "bpe",
        byte_fallback=True, minloglevel=2, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": "{{ messages }}"}))
    if kind == "unigram":
        (folder / "tokenizer.model").rename(folder / "sentencepiece.bpe.model")
    if kind == "pieces":
        import transformers

        transformers.LlamaTokenizerFast(str(folder / "tokenizer.model")).save_pretrained(folder)
        (folder / "tokenizer.model").unlink()


def write_words(folder: Path, vocabulary: Path) -> None:
    """BERT's vocabulary as a tokenizer.json; llama.cpp marks where words begin, and WordPiece where they go on."""
    fields = gguf.GGUFReader(vocabulary).fields
    tokens = [
        token if token.startswith("[") and token.endswith("]") else token[1:] if token[0] == "\u2581" else f"##{token}"
        for token in fields["tokenizer.ggml.tokens"].contents()
    ]
    known = {token: number for number, token in enumerate(tokens)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    document = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": known[token], "content": token, **flags} for token in names.values()],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": {
            token: {"id": token, "ids": [known[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": known},
    }  # fmt: skip
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        **{f"{key}_token": names[key] for key in names},
    }
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")


def write_bytes(folder: Path, vocabulary: Path, more: dict[str, Any]) -> None:
    """GPT-2's tokenizer.json, with the special tokens that some classes ask for behind it."""
    fields = gguf.GGUFReader(vocabulary).fields
    tokens, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges"))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    plain = [token for token in tokens if token not in SPECIAL]
    known = {token: number for number, token in enumerate(tokens)}
    new = [token for token in SPECIAL if token not in known]
    added = [(known[token], token) for token in SPECIAL if token in known]
    added += [(len(tokens) + number, token) for number, token in enumerate(new)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": byte_level,
        "added_tokens": [{"id": key, "content": token, **flags} for key, token in added],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {token: known[token] for token in plain}, "merges": merges},
    }  # fmt: skip
    settings = {**more, "bos_token": SPECIAL[0], "eos_token": SPECIAL[0],
                "chat_template": "{{ messages }}"}  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
