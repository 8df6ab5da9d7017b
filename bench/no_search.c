// llama.cpp's searches by their own names, writing zeros: loaded ahead of libggml-base (LD_PRELOAD), they leave of
// llama-quantize what reading, widening and writing take, which is the limit of what lanes can reach.
#include <stdint.h>
#include <string.h>

#include "ggml.h"

#define NO_SEARCH(name, type)                                                                                        \
    size_t quantize_##name(const float *x, void *y, int64_t rows, int64_t columns, const float *importance) {        \
        (void)importance;                                                                                            \
        const size_t bytes = (size_t)rows * ggml_row_size(type, columns);                                            \
        /* Every weight is looked at once, as a search must. */                                                      \
        float most = 0;                                                                                              \
        for (int64_t i = 0; i < rows * columns; i++) {                                                               \
            most = x[i] > most ? x[i] : most;                                                                        \
        }                                                                                                            \
        memset(y, most > 1e30f, bytes);                                                                                  \
        return bytes;                                                                                                \
    }

NO_SEARCH(q4_K, GGML_TYPE_Q4_K)
NO_SEARCH(q5_K, GGML_TYPE_Q5_K)
NO_SEARCH(q6_K, GGML_TYPE_Q6_K)
