rule write_manifest:
    input:
        model_source=f"<{SOURCE}>/source.json",
        corpus="<corpus>/corpus.json",
        toolchain="<toolchain>/source.json",
        variants=[
            "<toolchain>/strict/bin/llama-quantize.json",
            f"<toolchain>/{recipe.calibration.variant}/build.json",
            *LANES,
        ],
        model=f"<bf16>/{MODEL}/model.json",
        imatrix="<results>/calibration/imatrix.json",
        quants=[f"<results>/quants/{kind}.json" for kind in recipe.quants],
    output:
        manifest=report(
            "<results>/release/manifest.json",
            caption="../report/manifest.rst",
            category="Release",
        ),
    log:
        "<logs>/write_manifest.log",
    benchmark:
        "<benchmarks>/write_manifest.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        recipe=recipe.document,
    message:
        "writing the manifest"
    script:
        "../../scripts/write_manifest.py"


rule write_card:
    input:
        manifest="<results>/release/manifest.json",
        evaluation=EVALUATION,
        templates=sorted(ROOT.glob("workflow/templates/card.*")),
    output:
        card=report(
            "<results>/release/README.md",
            caption="../report/card.rst",
            category="Release",
        ),
    log:
        "<logs>/write_card.log",
    benchmark:
        "<benchmarks>/write_card.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    message:
        "writing the model card"
    script:
        "../../scripts/write_card.py"


rule write_bill:
    input:
        manifest="<results>/release/manifest.json",
    output:
        bill="<results>/release/bom.cdx.json",
    log:
        "<logs>/write_bill.log",
    benchmark:
        "<benchmarks>/write_bill.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    message:
        "writing the bill of materials"
    script:
        "../../scripts/write_bill.py"


rule place_quant:
    input:
        file="<results>/quants/{name}.gguf",
    output:
        file="<results>/release/{name}.gguf",
    log:
        "<logs>/place_{name}.log",
    benchmark:
        "<benchmarks>/place_{name}.jsonl"
    wildcard_constraints:
        name="|".join(re.escape(Path(quant).stem) for quant in QUANTS),
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=mem_mb("place_quant"),
        runtime=runtime("place_quant"),
    message:
        "placing {wildcards.name}.gguf in the release"
    script:
        "../../scripts/place_file.py"


use rule place_quant as place_imatrix with:
    input:
        file="<results>/calibration/{name}.gguf",
    log:
        "<logs>/place_{name}.log",
    benchmark:
        "<benchmarks>/place_{name}.jsonl"
    wildcard_constraints:
        name="imatrix",
    conda:
        "../../envs/workflow.yaml"


rule write_sums:
    input:
        files=[
            f"<results>/release/{name}"
            for name in (*QUANTS, "imatrix.gguf", "README.md")
        ]
        + EVALUATION
        + BILL,
        manifest="<results>/release/manifest.json",
    output:
        sums=report(
            "<results>/release/SHA256SUMS",
            caption="../report/sums.rst",
            category="Release",
        ),
    log:
        "<logs>/write_sums.log",
    benchmark:
        "<benchmarks>/write_sums.jsonl"
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=mem_mb("write_sums"),
        runtime=runtime("write_sums"),
    message:
        "checking the release and writing SHA256SUMS"
    script:
        "../../scripts/write_sums.py"


rule write_run:
    input:
        sums="<results>/release/SHA256SUMS",
        # Says whether the upstream converter's environment is part of the run.
        choice=["<bf16>/converter.json"] if MODEL == "converted" else [],
        builds=[
            "<toolchain>/strict/bin/llama-quantize.json",
            "<toolchain>/strict/bin/llama-imatrix.json",
            f"<toolchain>/{recipe.calibration.variant}/build.json",
            *LANES,
        ],
    output:
        run=report("<results>/run.json", caption="../report/run.rst", category="Run"),
        table=report("<results>/run.tsv", caption="../report/times.rst", category="Run"),
    log:
        "<logs>/write_run.log",
    benchmark:
        "<benchmarks>/write_run.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        benchmarks=[
            layout.benchmarks(folder)
            for folder in (
                layout.results(recipe.name),
                layout.toolchain(recipe.toolchain.name),
                *([layout.toolchain("datasets")] if recipe.corpus.repo else []),
            )
        ],
        upstream=layout.benchmarks(layout.toolchain("converter")),
    message:
        "writing what this run took"
    script:
        "../../scripts/write_run.py"
