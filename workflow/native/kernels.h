// The functions that exist once per instruction set, all with the same results.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The three element types that the kernels multiply, numbered as ggml numbers its types.
enum element { ELEMENT_F32 = 0, ELEMENT_F16 = 1, ELEMENT_BF16 = 30 };

// C[column * ldc + row] = dot(A + row * lda, B + column * ldb), both of length k; strides in elements.
struct product {
    int64_t rows, columns, k;
    const void *a, *b;
    int64_t lda, ldb;
    float *c;
    int64_t ldc;
    enum element type;
};

struct kernels {
    const char *level;
    // Thread `thread` of `threads` computes its share of the outputs.
    void (*multiply)(const struct product *product, int thread, int threads);
    // y = exp(x - max); returns the sum of y.
    double (*soft_max)(int n, float *y, const float *x, float max);
    // y = x / (1 + exp(-x)), times g where g is not NULL.
    void (*silu)(int n, float *y, const float *x, const float *g);
    void (*to_half)(int64_t n, uint16_t *y, const float *x);
    void (*to_bfloat)(int64_t n, uint16_t *y, const float *x);
};

extern const struct kernels kernels_baseline;
#if defined(__x86_64__)
extern const struct kernels kernels_v3, kernels_v4;
#endif
