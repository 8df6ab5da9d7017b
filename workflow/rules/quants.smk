rule quantize:
    input:
        model=f"<bf16>/{MODEL}/{recipe.model_name}.gguf",
        model_record=f"<bf16>/{MODEL}/model.json",
        imatrix="<results>/calibration/imatrix.gguf",
        imatrix_record="<results>/calibration/imatrix.json",
        tool="<toolchain>/strict/bin/llama-quantize.json",
        lanes=LANES,
    output:
        quant=staying(
            "quants", f"<results>/quants/{layout.quant_file(recipe.name, '{kind}')}"
        ),
        record="<results>/quants/{kind}.json",
    log:
        "<logs>/quantize_{kind}.log",
    benchmark:
        "<benchmarks>/quantize_{kind}.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        mem_mb=mem_mb("quantize"),
        runtime=runtime("quantize"),
    params:
        settings=recipe.calibration.as_recipe(),
    message:
        f"quantizing {recipe.name} to {{wildcards.kind}}"
    script:
        "../../scripts/quantize.py"
