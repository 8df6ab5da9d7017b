// What the levels of the lanes have in common: which blocks are quantized at once, and how each type is.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEEN __attribute__((visibility("default")))

enum { MOST_LANES = 16 };

// One block for each lane. Lanes that are not in use repeat a block and write into no quant.
struct lanes {
    int count;
    const float *x[MOST_LANES];
    // NULL, all of them, where there are no importances.
    const float *importance[MOST_LANES];
    // The mean square of the row that the block is of, for the types that look at the whole row.
    float sigma2[MOST_LANES];
    uint8_t *y[MOST_LANES];
};

struct kind {
    // As ggml numbers it.
    int type;
    // Weights and bytes of a block.
    int weights;
    size_t bytes;
    // Whether blocks need `sigma2`; such types have no search, and no lanes, without importances.
    bool whole_row;
    void (*quantize)(const struct lanes *lanes);
};

struct level {
    const char *name;
    int width;
    const struct kind *kinds;
    int count;
};

extern const struct level lanes_baseline;
#if defined(__x86_64__)
extern const struct level lanes_v3, lanes_v4;
#endif

// Quantize rows as llama.cpp does, and give the bytes of a row; or touch nothing and give 0: for another type, for rows
// that are no multiple of the block, and for NaN and infinity, whose bits depend on the order of operands.
SEEN size_t requant_quantize(int type, const float *x, void *y, int64_t rows, int64_t columns, const float *importance);
SEEN const char *requant_level(void);
