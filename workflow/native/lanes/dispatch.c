// Rows of any type, handed out to the lanes of the best instruction set that this processor has.
#include "lanes.h"

#include <fenv.h>
#include <string.h>

#include "../processor.h"

static const struct {
    const struct level *level;
    bool (*supported)(void);
} LEVELS[] = {
#if defined(__x86_64__)
    {&lanes_v4, has_v4},
    {&lanes_v3, has_v3},
#endif
    {&lanes_baseline, has_baseline},
};

static const struct level *chosen;

__attribute__((constructor)) static void choose(void) {
    const char *wanted = wanted_level();
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS && !chosen; i++) {
        if (may_use(LEVELS[i].level->name, wanted, LEVELS[i].supported)) {
            chosen = LEVELS[i].level;
        }
    }
    require_level(chosen != NULL, wanted);
}

const char *requant_level(void) { return chosen->name; }

static bool is_finite(const float *x, int64_t n) {
    uint32_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        found |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return !found;
}

enum { ROWS = 16 };

// The mean squares of up to ROWS rows, each summed in order; several at a time, since each addition waits for the last.
static void mean_squares(const float *x, int64_t rows, int64_t columns, float *out) {
    float sums[ROWS] = {0};
    for (int64_t column = 0; column < columns; column++) {
        for (int64_t row = 0; row < rows; row++) {
            const float value = x[row * columns + column];
            sums[row] += value * value;
        }
    }
    for (int64_t row = 0; row < rows; row++) {
        out[row] = sums[row] / columns;
    }
}

static void quantize_rows(const struct kind *kind, const float *x, uint8_t *y, int64_t rows, int64_t columns,
                          const float *importance) {
    const int64_t in_row = columns / kind->weights, blocks = rows * in_row;
    float sigma2[ROWS] = {0};
    if (kind->whole_row) {
        mean_squares(x, rows, columns, sigma2);
    }
    for (int64_t first = 0; first < blocks; first += chosen->width) {
        struct lanes lanes = {.count = blocks - first < chosen->width ? (int)(blocks - first) : chosen->width};
        for (int lane = 0; lane < chosen->width; lane++) {
            const int64_t block = first + (lane < lanes.count ? lane : 0);
            lanes.x[lane] = x + block * kind->weights;
            lanes.importance[lane] = importance ? importance + block % in_row * kind->weights : NULL;
            lanes.sigma2[lane] = sigma2[block / in_row];
            lanes.y[lane] = y + (size_t)block * kind->bytes;
        }
        kind->quantize(&lanes);
    }
}

size_t requant_quantize(int type, const float *x, void *y, int64_t rows, int64_t columns, const float *importance) {
    const struct kind *kind = NULL;
    for (int i = 0; i < chosen->count; i++) {
        kind = chosen->kinds[i].type == type ? &chosen->kinds[i] : kind;
    }
    if (!kind || columns % kind->weights || (kind->whole_row && !importance)) {
        return 0;
    }
    if (!is_finite(x, rows * columns) || (importance && !is_finite(importance, columns))) {
        return 0;
    }
    // Whatever the caller's thread rounds to, and whether or not it takes what is below the normal numbers for zero.
    fenv_t modes;
    fegetenv(&modes);
    fesetenv(FE_DFL_ENV);
    const size_t in_row = (size_t)(columns / kind->weights) * kind->bytes;
    for (int64_t row = 0; row < rows; row += ROWS) {
        const int64_t some = rows - row < ROWS ? rows - row : ROWS;
        quantize_rows(kind, x + row * columns, (uint8_t *)y + (size_t)row * in_row, some, columns, importance);
    }
    fesetenv(&modes);
    return in_row;
}
