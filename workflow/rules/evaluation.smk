rule answer_question:
    input:
        model=f"<results>/release/{QUANTS[0]}",
        sums="<results>/release/SHA256SUMS",
        tool="<toolchain>/strict/bin/llama-completion.json",
        backend="<toolchain>/native/build.json",
    output:
        answer="<results>/evaluation/answer.txt",
    log:
        "<logs>/answer_question.log",
    benchmark:
        "<benchmarks>/answer_question.jsonl"
    conda:
        "../../envs/workflow.yaml"
    threads: MANY
    params:
        question="What is the capital of France? Answer in one short sentence.",
    message:
        "asking {input.model} a question"
    script:
        "../../scripts/answer_question.py"
