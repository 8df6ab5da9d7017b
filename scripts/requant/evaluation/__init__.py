"""What quantization took from a model: distributions, perplexity and speed, and its answers to suites of questions."""
