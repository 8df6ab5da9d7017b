# What a checkpoint is decides how it is converted, and so whether the upstream converter's environment is needed at all.
checkpoint choose_converter:
    input:
        files=[f"<{SOURCE}>/{name}" for name in (SOURCE_FILES or TINY_FILES)],
        source=f"<{SOURCE}>/source.json",
        toolchain="<toolchain>/source.json",
    output:
        record="<bf16>/converter.json",
    log:
        "<logs>/choose_converter.log",
    benchmark:
        "<benchmarks>/choose_converter.jsonl"
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        asked=recipe.conversion,
    message:
        f"looking how {recipe.name} is converted"
    script:
        "../../scripts/choose_converter.py"


rule convert_checkpoint:
    input:
        files=[f"<{SOURCE}>/{name}" for name in (SOURCE_FILES or TINY_FILES)],
        source=f"<{SOURCE}>/source.json",
        toolchain="<toolchain>/source.json",
        choice="<bf16>/converter.json",
        environment=upstream_environment,
    output:
        model=staying("bf16", f"<bf16>/converted/{recipe.model_name}.gguf"),
        record="<bf16>/converted/model.json",
    log:
        "<logs>/convert_checkpoint.log",
    benchmark:
        "<benchmarks>/convert_checkpoint.jsonl"
    conda:
        "../../envs/workflow.yaml"
    resources:
        mem_mb=mem_mb("convert_checkpoint"),
        runtime=runtime("convert_checkpoint"),
    params:
        name=recipe.model_name,
    message:
        f"converting the weights of {recipe.name} to a BF16 GGUF"
    script:
        "../../scripts/convert_checkpoint.py"


rule expand_gguf:
    input:
        files=[f"<source>/{name}" for name in SOURCE_FILES],
        source="<source>/source.json",
        tool="<toolchain>/strict/bin/llama-quantize.json",
    output:
        model=staying("bf16", f"<bf16>/expanded/{recipe.model_name}.gguf"),
        record="<bf16>/expanded/model.json",
    log:
        "<logs>/expand_gguf.log",
    benchmark:
        "<benchmarks>/expand_gguf.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    resources:
        mem_mb=mem_mb("expand_gguf"),
        runtime=runtime("expand_gguf"),
    message:
        f"making a BF16 GGUF of {recipe.name} from a GGUF"
    script:
        "../../scripts/expand_gguf.py"
