// The types whose scale is that of 32 weights: Q4_0 to Q5_1, and IQ4_NL with its sub-blocks in IQ4_XS.
//
// As super_blocks.h. Without importances Q4_0 to Q5_1 have no search, so llama.cpp does them.
#pragma once

#include "blocks.h"

// Blocks of 32 under the mean square of their row: their weights, and half precision at the start of each.
INLINE void load_weighed(const struct lanes *lanes, vec *x, vec *w) {
    vec sigma2;
    memcpy(&sigma2, lanes->sigma2, sizeof sigma2);
    load(32, lanes->x, 0, x);
    weigh(32, lanes, 0, x, sigma2, w);
}

INLINE void put_halves(const struct lanes *lanes, size_t at, vec value) {
    for (int lane = 0; lane < lanes->count; lane++) {
        const ggml_half half = GGML_FP32_TO_FP16(value[lane]);
        memcpy(lanes->y[lane] + at, &half, sizeof half);
    }
}

INLINE void put_four_bits(const struct lanes *lanes, size_t at, int n, const ivec *L) {
    ivec out[128];
    for (int j = 0; j < n / 2; j++) {
        const ivec *l = L + j / 16 * 32 + j % 16;
        out[j] = (l[0] & 15) | (l[16] & 15) << 4;
    }
    put(lanes, at, n / 2, out);
}

INLINE void put_fifth_bits(const struct lanes *lanes, size_t at, const ivec *L) {
    ivec out[4];
    for (int j = 0; j < 4; j++) {
        out[j] = (ivec){0};
        for (int bit = 0; bit < 8; bit++) {
            out[j] |= (L[8 * j + bit] >> 4 & 1) << bit;
        }
    }
    put(lanes, at, 4, out);
}

static void quantize_Q4_0(const struct lanes *lanes) {
    vec x[32], w[32];
    ivec L[32];
    load_weighed(lanes, x, w);
    put_halves(lanes, offsetof(block_q4_0, d), search_scale(32, 8, x, w, true, L));
    put_four_bits(lanes, offsetof(block_q4_0, qs), 32, L);
}

static void quantize_Q5_0(const struct lanes *lanes) {
    vec x[32], w[32];
    ivec L[32];
    load_weighed(lanes, x, w);
    put_halves(lanes, offsetof(block_q5_0, d), search_scale(32, 16, x, w, true, L));
    put_fifth_bits(lanes, offsetof(block_q5_0, qh), L);
    put_four_bits(lanes, offsetof(block_q5_0, qs), 32, L);
}

static void quantize_Q4_1(const struct lanes *lanes) {
    vec x[32], w[32], scale, min;
    ivec L[32];
    load_weighed(lanes, x, w);
    search_scales_and_mins(1, 32, 15, x, w, L, &scale, &min, WITH_IMPORTANCES);
    put_halves(lanes, offsetof(block_q4_1, d), scale);
    put_halves(lanes, offsetof(block_q4_1, m), negative(min));
    put_four_bits(lanes, offsetof(block_q4_1, qs), 32, L);
}

static void quantize_Q5_1(const struct lanes *lanes) {
    vec x[32], w[32], scale, min;
    ivec L[32];
    load_weighed(lanes, x, w);
    search_scales_and_mins(1, 32, 31, x, w, L, &scale, &min, WITH_IMPORTANCES);
    put_halves(lanes, offsetof(block_q5_1, d), scale);
    put_halves(lanes, offsetof(block_q5_1, m), negative(min));
    put_fifth_bits(lanes, offsetof(block_q5_1, qh), L);
    put_four_bits(lanes, offsetof(block_q5_1, qs), 32, L);
}

// Halfway between a value of IQ4 and the one before: such a number is exact, and so is every comparison with one.
INLINE vec halfway(int k) { return all((kvalues_iq4nl[k - 1] + kvalues_iq4nl[k]) / 2.0f); }

// best_index_int8 on the values of IQ4: the value itself, and its index.
INLINE vec nearest_value(vec x) {
    vec value = all(kvalues_iq4nl[0]);
    for (int k = 1; k < 16; k++) {
        value = pick_less(x, halfway(k), value, all(kvalues_iq4nl[k]));
    }
    return value;
}

INLINE ivec nearest_index(vec x) {
    ivec index = {0};
    for (int k = 1; k < 16; k++) {
        index -= ~(x < halfway(k));
    }
    return index;
}

// The search of quantize_row_iq4_nl_impl for one sub-block of 32.
INLINE vec search_iq4_scale(const vec *x, const vec *w) {
    vec amax, scale = all(0), best = all(0);
    const vec max = largest(32, x, &amax);
    const ivec none = amax < NO_SCALE_BELOW;
    for (int try = -8; try <= 7; try++) {
        // First under the scale that gives the largest element the lowest value, then around it.
        const vec inverse = try == -8 ? 1 / (negative(max) / kvalues_iq4nl[0]) : (float)(try + kvalues_iq4nl[0]) / max;
        vec sumqx = all(0), sumq2 = all(0);
        for (int i = 0; i < 32; i++) {
            const vec value = nearest_value(inverse * x[i]);
            sumqx += w[i] * value * x[i];
            sumq2 += w[i] * value * value;
        }
        const ivec better = try == -8 ? sumq2 > 0 : (sumq2 > 0) & (sumqx * sumqx > best * sumq2);
        scale = pick(better, sumqx / sumq2, scale);
        best = try == -8 ? scale * sumqx : pick(better, scale * sumqx, best);
    }
    return pick(none, all(0), scale);
}

// The scale of one sub-block of 32, weighed as its block says.
INLINE vec iq4_scale(const struct lanes *lanes, int from, const vec *x, vec sigma2) {
    vec w[32];
    if (lanes->importance[0]) {
        weigh(32, lanes, from, x, sigma2, w);
    } else {
        squares(32, x, w);
    }
    return search_iq4_scale(x, w);
}

static void quantize_IQ4_NL(const struct lanes *lanes) {
    vec x[32];
    ivec L[32];
    load(32, lanes->x, 0, x);
    const vec scale = iq4_scale(lanes, 0, x, sum_of_squares(32, x) * (2.0f / 32));
    const vec inverse = pick(scale != 0, 1 / scale, all(0));
    for (int i = 0; i < 32; i++) {
        L[i] = nearest_index(inverse * x[i]);
    }
    put_halves(lanes, offsetof(block_iq4_nl, d), scale);
    put_four_bits(lanes, offsetof(block_iq4_nl, qs), 32, L);
}

static void quantize_IQ4_XS(const struct lanes *lanes) {
    vec x[256], scales[8], unused;
    ivec L[256], Ls[8], low[4], high[2] = {{0}, {0}};
    load(256, lanes->x, 0, x);
    const vec sigma2 = sum_of_squares(256, x) * (2.0f / 256);
    for (int j = 0; j < 8; j++) {
        scales[j] = iq4_scale(lanes, 32 * j, x + 32 * j, sigma2);
    }
    const vec d = negative(largest(8, scales, &unused)) / 32;
    const vec id = pick(d != 0, 1 / d, all(0));
    for (int j = 0; j < 8; j++) {
        const ivec l = nearest_between(-32, 31, id * scales[j]);
        const vec dl = d * float_of(l), inverse = pick(dl != 0, 1 / dl, all(0));
        for (int i = 32 * j; i < 32 * j + 32; i++) {
            L[i] = nearest_index(inverse * x[i]);
        }
        Ls[j] = l + 32;
        high[j / 4] |= Ls[j] >> 4 << 2 * (j % 4);
    }
    for (int j = 0; j < 4; j++) {
        low[j] = (Ls[2 * j] & 15) | (Ls[2 * j + 1] & 15) << 4;
    }
    put_halves(lanes, offsetof(block_iq4_xs, d), d);
    put(lanes, offsetof(block_iq4_xs, scales_h), 2, high);
    put(lanes, offsetof(block_iq4_xs, scales_l), 4, low);
    put_four_bits(lanes, offsetof(block_iq4_xs, qs), 256, L);
}
