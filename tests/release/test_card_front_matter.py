"""The front matter of the model card: what both hubs read of it."""

import pytest
from huggingface_hub import ModelCard

from support.cards import render
from support.manifests import generated_model, hub_model, packaged_model
from support.measured import evaluation


def test_front_matter_of_a_hub_model() -> None:
    data = ModelCard(render(hub_model()), ignore_metadata_errors=False).data.to_dict()
    assert data == {
        "license": "apache-2.0",
        "base_model": "Org/Big",
        "base_model_relation": "quantized",
        "quantized_by": "somebody",
        "pipeline_tag": "text-generation",
        "library_name": "gguf",
        "language": ["zh", "en"],
        "tags": ["gguf", "imatrix", "llama.cpp", "qwen3", "Q4_K_M", "Q6_K"],
        "datasets": ["Salesforce/wikitext"],
        "tasks": ["text-generation"],
        "frameworks": ["gguf"],
    }


def test_front_matter_without_base_model_or_data_set() -> None:
    data = ModelCard(render(generated_model()), ignore_metadata_errors=False).data.to_dict()
    assert not {"base_model", "base_model_relation", "datasets", "model-index"} & set(data)
    assert data["license"] == "mit"


def test_a_licence_unknown_to_the_hub_is_other() -> None:
    data = ModelCard(render(packaged_model()), ignore_metadata_errors=False).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "licenseref-own")
    assert data["license_link"] == "https://huggingface.co/Org/Small"


@pytest.mark.parametrize(
    ("pinned", "hub"), [("LicenseRef-gemma", "gemma"), ("BSD-2-Clause", "bsd-2-clause"), ("GPL-3.0-only", "gpl-3.0")]
)
def test_a_licence_that_the_hub_knows_is_called_as_there(pinned: str, hub: str) -> None:
    manifest = packaged_model()
    manifest["inputs"]["model"]["licence"] = pinned
    data = ModelCard(render(manifest), ignore_metadata_errors=False).data.to_dict()
    assert (data["license"], "license_name" in data) == (hub, False)


def test_the_hub_reads_what_was_measured() -> None:
    found = ModelCard(render(hub_model(), evaluation(hub_model()))).data
    results = {(result.dataset_name, result.metric_name): result.metric_value for result in found.eval_results or []}
    text = evaluation(hub_model())["fidelity"]["protocol"]["text"]["name"]
    assert results[text, "perplexity, Q4_K_M"] == 9.9012
    assert results[text, "mean KL divergence from BF16 in nats, Q4_K_M"] == 0.0123
    assert results["tool_calls", "passed, Q4_K_M"] == results["my_own", "passed, Q4_K_M"] == 0.7333
    assert not ModelCard(render(hub_model())).data.eval_results
