rule fetch_corpus:
    input:
        toolchain="<toolchain>/source.json",
        packages=[READER] if recipe.corpus.repo else [],
    output:
        calibration=f"<corpus>/{recipe.calibration_text.name}",
        evaluation=f"<corpus>/{recipe.evaluation_text.name}",
        record="<corpus>/corpus.json",
    log:
        "<logs>/fetch_corpus.log",
    benchmark:
        "<benchmarks>/fetch_corpus.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        pin=recipe.corpus,
        pinned=plain(recipe.corpus),
        texts={
            "calibration": recipe.calibration_text,
            "evaluation": recipe.evaluation_text,
        },
    message:
        f"rebuilding the corpus {recipe.corpus.name}"
    script:
        "../../scripts/fetch_corpus.py"
