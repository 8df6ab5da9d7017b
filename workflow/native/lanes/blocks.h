// What goes into the lanes and what comes out: a block for each; layout and half precision as in llama.cpp's headers.
#pragma once

#define GGML_COMMON_DECL_C
#define GGML_COMMON_IMPL_C
#include "ggml-common.h"
#include "ggml-impl.h"
#include "lanes.h"
#include "search.h"

static const struct steps WITH_IMPORTANCES = {-0.9f, 0.05f, 36, false, false};

// `n` elements of each lane's array, from `from` on.
INLINE void load(int n, const float *const *arrays, int from, vec *out) {
    for (int i = 0; i < n; i++) {
        float lanes[WIDTH];
        for (int lane = 0; lane < WIDTH; lane++) {
            lanes[lane] = arrays[lane][from + i];
        }
        memcpy(&out[i], lanes, sizeof lanes);
    }
}

INLINE vec sum_of(int n, const vec *x) {
    vec sum = all(0);
    for (int i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum;
}

INLINE vec sum_of_squares(int n, const vec *x) {
    vec sum = all(0);
    for (int i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    return sum;
}

// The weights of a search: importances times what makes large elements matter more.
INLINE void weigh(int n, const struct lanes *lanes, int from, const vec *x, vec sigma2, vec *w) {
    load(n, lanes->importance, from, w);
    for (int i = 0; i < n; i++) {
        w[i] *= root(sigma2 + x[i] * x[i]);
    }
}

INLINE void squares(int n, const vec *x, vec *w) {
    for (int i = 0; i < n; i++) {
        w[i] = x[i] * x[i];
    }
}

INLINE void put(const struct lanes *lanes, size_t at, int n, const ivec *bytes) {
    for (int lane = 0; lane < lanes->count; lane++) {
        uint8_t *y = lanes->y[lane] + at;
        for (int i = 0; i < n; i++) {
            y[i] = (uint8_t)bytes[i][lane];
        }
    }
}
