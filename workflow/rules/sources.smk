rule fetch_model:
    output:
        files=[
            staying("weights", path) if path.endswith(WEIGHTS) else path
            for path in (f"<source>/{name}" for name in SOURCE_FILES)
        ],
        record="<source>/source.json",
    log:
        "<logs>/fetch_model.log",
    benchmark:
        "<benchmarks>/fetch_model.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    threads: 4
    # No params: another mirror, or what is to come and to stay, are no reason to download the weights again.
    resources:
        mirror=recipe.mirror,
        quants=" ".join(recipe.quants),
        keep=" ".join(recipe.keep),
    params:
        pin=recipe.model,
        pinned=plain(recipe.model),
    message:
        f"fetching the weights of {recipe.name}"
    script:
        "../../scripts/fetch_model.py"


rule generate_model:
    input:
        toolchain="<toolchain>/source.json",
    output:
        files=[f"<generated>/{name}" for name in TINY_FILES],
        record="<generated>/source.json",
    log:
        "<logs>/generate_model.log",
    benchmark:
        "<benchmarks>/generate_model.jsonl"
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=mem_mb("generate_model"),
        runtime=runtime("generate_model"),
    params:
        name=recipe.model_name,
        # In one order, whichever the recipe has them in: another would be another text.
        shape=dict(sorted((recipe.generate or {}).items())),
    message:
        f"generating the random model {recipe.name}"
    script:
        "../../scripts/generate_model.py"
