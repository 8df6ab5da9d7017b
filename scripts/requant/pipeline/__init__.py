"""The rules of the workflow, a module each, with the recipe that they carry out.

The adapters in ``scripts/`` call them; everybody from ``difference`` upwards may enter.
"""

__all__ = [
    "answer_question",
    "calibrate",
    "choose_converter",
    "convert",
    "describe",
    "fetch_corpus",
    "fetch_model",
    "generate_model",
    "job",
    "layout",
    "merge_shards",
    "needs",
    "new_pin",
    "new_recipe",
    "quantize",
    "recipe",
    "recipes",
    "run_times",
    "settings",
    "shards",
    "suites",
    "terminal",
    "tiny_shape",
    "write_gguf",
]
