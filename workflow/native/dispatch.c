// What ggml calls, under ggml's own names, and the choice of the instruction set.
//
// These objects come first on the linker's command line, so their functions are taken instead of ggml's.
// REQUANT_LEVEL names a lower level than the processor's best one; no result depends on it.
#include <stdio.h>

#include "kernels.h"
#include "processor.h"

static const struct {
    const struct kernels *kernels;
    bool (*supported)(void);
} LEVELS[] = {
#if defined(__x86_64__)
    {&kernels_v4, has_v4},
    {&kernels_v3, has_v3},
#endif
    {&kernels_baseline, has_baseline},
};

static const struct kernels *chosen;

__attribute__((constructor)) static void choose(void) {
    const char *wanted = wanted_level();
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS && !chosen; i++) {
        if (may_use(LEVELS[i].kernels->level, wanted, LEVELS[i].supported)) {
            chosen = LEVELS[i].kernels;
        }
    }
    require_level(chosen != NULL, wanted);
    fprintf(stderr, "requant: portable arithmetic, level %s\n", chosen->level);
}

// The first two fields of ggml's ggml_compute_params.
struct threads {
    int thread, threads;
};

bool llamafile_sgemm(const struct threads *threads, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                     const void *b, int64_t ldb, void *c, int64_t ldc, int type_a, int type_b, int type_c) {
    const bool known = type_a == ELEMENT_F32 || type_a == ELEMENT_F16 || type_a == ELEMENT_BF16;
    // A single column is left to ggml, which calls the dot product below for each row: the same bits.
    if (!known || type_b != type_a || type_c != ELEMENT_F32 || n < 2) {
        return false;
    }
    const struct product product = {m, n, k, a, b, lda, ldb, c, ldc, (enum element)type_a};
    chosen->multiply(&product, threads->thread, threads->threads);
    return true;
}

static void dot(int n, float *s, const void *x, const void *y, enum element type) {
    const struct product product = {1, 1, n, x, y, 0, 0, s, 0, type};
    chosen->multiply(&product, 0, 1);
}

// The strides and the row count serve kernels that do two rows at once; ggml asks these three for one.
void ggml_vec_dot_f32(int n, float *s, size_t bs, const float *x, size_t bx, const float *y, size_t by, int rows) {
    (void)bs, (void)bx, (void)by, (void)rows;
    dot(n, s, x, y, ELEMENT_F32);
}

void ggml_vec_dot_f16(int n, float *s, size_t bs, uint16_t *x, size_t bx, uint16_t *y, size_t by, int rows) {
    (void)bs, (void)bx, (void)by, (void)rows;
    dot(n, s, x, y, ELEMENT_F16);
}

void ggml_vec_dot_bf16(int n, float *s, size_t bs, uint16_t *x, size_t bx, uint16_t *y, size_t by, int rows) {
    (void)bs, (void)bx, (void)by, (void)rows;
    dot(n, s, x, y, ELEMENT_BF16);
}

double ggml_vec_soft_max_f32(const int n, float *y, const float *x, float max) {
    return chosen->soft_max(n, y, x, max);
}
void ggml_vec_silu_f32(const int n, float *y, const float *x) { chosen->silu(n, y, x, NULL); }
void ggml_vec_swiglu_f32(const int n, float *y, const float *x, const float *g) { chosen->silu(n, y, x, g); }
void ggml_cpu_fp32_to_fp16(const float *x, uint16_t *y, int64_t n) { chosen->to_half(n, y, x); }
void ggml_cpu_fp32_to_bf16(const float *x, uint16_t *y, int64_t n) { chosen->to_bfloat(n, y, x); }
