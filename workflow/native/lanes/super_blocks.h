// The types whose block is a super-block of 256: Q2_K to Q6_K.
//
// These are quantize_row_*_impl (with importances) and quantize_row_*_ref (without) of ggml-quants.c, line by line:
// weights, search, the block's own scales, rounding, packing.
#pragma once

#include "blocks.h"

// Round all elements of a sub-block under its scale d and minimum m; where d is 0, the search's levels stay.
INLINE void round_again(int n, int low, int high, const vec *x, vec d, vec m, bool with_min, ivec *L) {
    const ivec keep = d == 0;
    for (int i = 0; i < n; i++) {
        const ivec level = nearest_between(low, high, (with_min ? x[i] + m : x[i]) / d) - low;
        L[i] = (ivec)pick(keep, (vec)L[i], (vec)level);
    }
}

// The largest value above 0, and the largest magnitude with its sign.
INLINE vec largest_positive(int n, const vec *x) {
    vec max = all(0);
    for (int i = 0; i < n; i++) {
        max = pick(x[i] > max, x[i], max);
    }
    return max;
}

// What Q4_K, Q5_K and Q2_K do without importances: the largest scale and the largest minimum decide for the block.
INLINE vec share_out(int n, float most, const vec *scales, ivec *L) {
    const vec max = largest_positive(n, scales), inverse = pick(max > 0, most / max, all(0));
    for (int i = 0; i < n; i++) {
        L[i] = nearest(inverse * scales[i]) & 255;
    }
    return max / most;
}

INLINE void pack_two_bits(const struct lanes *lanes, size_t at, const ivec *L) {
    ivec out[64];
    for (int j = 0; j < 64; j++) {
        const ivec *l = L + (j / 32) * 128 + j % 32;
        out[j] = l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6;
    }
    put(lanes, at, 64, out);
}

static void quantize_Q2_K(const struct lanes *lanes) {
    vec x[256], w[256], scales[16], mins[16], sw[16], d, m;
    ivec L[256], Ls[16], Lm[16];
    load(256, lanes->x, 0, x);
    if (lanes->importance[0]) {
        const vec sigma2 = sum_of_squares(256, x) / 256;
        weigh(256, lanes, 0, x, sigma2, w);
        for (int j = 0; j < 16; j++) {
            sw[j] = sum_of(16, w + 16 * j);
        }
        for (int j = 0; j < 16; j += SIDES) {
            const int at = 16 * j;
            search_scales_and_mins(SIDES, 16, 3, x + at, w + at, L + at, scales + j, mins + j, WITH_IMPORTANCES);
        }
        d = search_scale_of_scales(16, 15, scales, Ls, sw);
        m = search_scale_of_scales(16, 15, mins, Lm, sw);
    } else {
        static const struct steps steps = {-0.5f, 0.1f, 15, true, true};
        for (int i = 0; i < 256; i++) {
            w[i] = magnitude(x[i]);
        }
        for (int j = 0; j < 16; j += SIDES) {
            const int at = 16 * j;
            search_scales_and_mins(SIDES, 16, 3, x + at, w + at, L + at, scales + j, mins + j, steps);
        }
        d = share_out(16, 15, scales, Ls);
        m = share_out(16, 15, mins, Lm);
    }
    float ds[16][WIDTH], ms[16][WIDTH];
    block_q2_K unused;
    for (int lane = 0; lane < WIDTH; lane++) {
        block_q2_K *y = lane < lanes->count ? (block_q2_K *)lanes->y[lane] : &unused;
        y->d = GGML_FP32_TO_FP16(d[lane]);
        y->dmin = GGML_FP32_TO_FP16(m[lane]);
        for (int j = 0; j < 16; j++) {
            y->scales[j] = (uint8_t)(Ls[j][lane] | Lm[j][lane] << 4);
            ds[j][lane] = GGML_FP16_TO_FP32(y->d) * (y->scales[j] & 0xF);
            ms[j][lane] = GGML_FP16_TO_FP32(y->dmin) * (y->scales[j] >> 4);
        }
    }
    for (int j = 0; j < 16; j++) {
        memcpy(&d, ds[j], sizeof d);
        memcpy(&m, ms[j], sizeof m);
        round_again(16, 0, 3, x + 16 * j, d, m, true, L + 16 * j);
    }
    pack_two_bits(lanes, offsetof(block_q2_K, qs), L);
}

// Six bits for each scale and minimum, as Q4_K and Q5_K have them in 12 bytes.
INLINE void pack_scales_and_mins(const uint8_t *Ls, const uint8_t *Lm, uint8_t *out) {
    for (int j = 0; j < 4; j++) {
        out[j] = Ls[j];
        out[j + 4] = Lm[j];
    }
    for (int j = 4; j < 8; j++) {
        out[j + 4] = (uint8_t)((Ls[j] & 0xF) | (Lm[j] & 0xF) << 4);
        out[j - 4] |= (uint8_t)(Ls[j] >> 4 << 6);
        out[j] |= (uint8_t)(Lm[j] >> 4 << 6);
    }
}

INLINE void unpack_scale_and_min(int j, const uint8_t *packed, int *scale, int *min) {
    if (j < 4) {
        *scale = packed[j] & 63;
        *min = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 0xF) | packed[j - 4] >> 6 << 4;
        *min = packed[j + 4] >> 4 | packed[j] >> 6 << 4;
    }
}

// The scales, minima and levels of Q4_K (`most` is 15) and Q5_K (31). The two begin alike: d, dmin, 12 bytes of scales.
INLINE void quantize_with_mins(const struct lanes *lanes, int most, ivec *L) {
    vec x[256], w[256], scales[8], mins[8], sw[8], d, m;
    ivec Ls[8], Lm[8];
    load(256, lanes->x, 0, x);
    if (lanes->importance[0]) {
        const vec sigma2 = 2 * sum_of_squares(256, x) / 256;
        weigh(256, lanes, 0, x, sigma2, w);
        for (int j = 0; j < 8; j++) {
            sw[j] = sum_of(32, w + 32 * j);
        }
        for (int j = 0; j < 8; j += SIDES) {
            const int at = 32 * j;
            search_scales_and_mins(SIDES, 32, most, x + at, w + at, L + at, scales + j, mins + j, WITH_IMPORTANCES);
        }
        d = search_scale_of_scales(8, 63, scales, Ls, sw);
        m = search_scale_of_scales(8, 63, mins, Lm, sw);
    } else {
        const struct steps steps = most == 15 ? (struct steps){-1.0f, 0.1f, 20, false, true}
                                              : (struct steps){-0.5f, 0.1f, 15, false, true};
        for (int j = 0; j < 8; j++) {
            const vec av_x = root(sum_of_squares(32, x + 32 * j) / 32);
            for (int i = 32 * j; i < 32 * (j + 1); i++) {
                w[i] = av_x + magnitude(x[i]);
            }
        }
        for (int j = 0; j < 8; j += SIDES) {
            const int at = 32 * j;
            search_scales_and_mins(SIDES, 32, most, x + at, w + at, L + at, scales + j, mins + j, steps);
        }
        d = share_out(8, 63, scales, Ls);
        m = share_out(8, 63, mins, Lm);
    }
    // Q4_K with importances is the one that does not look whether a scale has more than six bits.
    const bool bounded = most == 31 || !lanes->importance[0];
    float ds[8][WIDTH], ms[8][WIDTH];
    block_q4_K unused;
    for (int lane = 0; lane < WIDTH; lane++) {
        block_q4_K *y = lane < lanes->count ? (block_q4_K *)lanes->y[lane] : &unused;
        uint8_t ls[8], lm[8];
        for (int j = 0; j < 8; j++) {
            ls[j] = (uint8_t)(bounded && Ls[j][lane] > 63 ? 63 : Ls[j][lane]);
            lm[j] = (uint8_t)(bounded && Lm[j][lane] > 63 ? 63 : Lm[j][lane]);
        }
        pack_scales_and_mins(ls, lm, y->scales);
        y->d = GGML_FP32_TO_FP16(d[lane]);
        y->dmin = GGML_FP32_TO_FP16(m[lane]);
        for (int j = 0; j < 8; j++) {
            int scale, min;
            unpack_scale_and_min(j, y->scales, &scale, &min);
            ds[j][lane] = GGML_FP16_TO_FP32(y->d) * scale;
            ms[j][lane] = GGML_FP16_TO_FP32(y->dmin) * min;
        }
    }
    for (int j = 0; j < 8; j++) {
        memcpy(&d, ds[j], sizeof d);
        memcpy(&m, ms[j], sizeof m);
        round_again(32, 0, most, x + 32 * j, d, m, true, L + 32 * j);
    }
}

static void quantize_Q4_K(const struct lanes *lanes) {
    ivec L[256], out[128];
    quantize_with_mins(lanes, 15, L);
    for (int j = 0; j < 128; j++) {
        const ivec *l = L + j / 32 * 64 + j % 32;
        out[j] = l[0] | l[32] << 4;
    }
    put(lanes, offsetof(block_q4_K, qs), 128, out);
}

static void quantize_Q5_K(const struct lanes *lanes) {
    ivec L[256], low[128], high[32];
    quantize_with_mins(lanes, 31, L);
    for (int j = 0; j < 32; j++) {
        high[j] = (ivec){0};
        for (int part = 0; part < 8; part++) {
            high[j] |= (L[32 * part + j] >> 4 & 1) << part;
        }
    }
    for (int j = 0; j < 128; j++) {
        const ivec *l = L + j / 32 * 64 + j % 32;
        low[j] = (l[0] & 15) | (l[32] & 15) << 4;
    }
    put(lanes, offsetof(block_q5_K, qh), 32, high);
    put(lanes, offsetof(block_q5_K, qs), 128, low);
}

// The 6-bit scales of Q3_K, of which `scales` holds 0 to 63.
INLINE void pack_q3_scales(const ivec *scales, int lane, uint8_t *out) {
    memset(out, 0, 12);
    for (int j = 0; j < 16; j++) {
        const int l = scales[j][lane];
        out[j % 8] |= (uint8_t)((l & 0xF) << (j < 8 ? 0 : 4));
        out[j % 4 + 8] |= (uint8_t)(l >> 4 << 2 * (j / 4));
    }
}

static void quantize_Q3_K(const struct lanes *lanes) {
    vec x[256], w[16], scales[16], sw[16], d;
    ivec L[256], Ls[16], high[32];
    load(256, lanes->x, 0, x);
    if (lanes->importance[0]) {
        const vec sigma2 = 2 * sum_of_squares(256, x) / 256;
        for (int j = 0; j < 16; j++) {
            weigh(16, lanes, 16 * j, x + 16 * j, sigma2, w);
            sw[j] = sum_of(16, w);
            scales[j] = search_scale(16, 4, x + 16 * j, w, true, L + 16 * j);
        }
        // Where squares overflowed, scales are not finite.
        d = search_scale(16, 32, scales, sw, false, Ls);
    } else {
        for (int j = 0; j < 16; j++) {
            scales[j] = search_scale_by_turns(16, 4, x + 16 * j, L + 16 * j);
        }
        vec unused;
        const vec max = largest(16, scales, &unused), iscale = -32.0f / max;
        const ivec none = max == 0;
        for (int j = 0; j < 16; j++) {
            // A byte there, before it is bounded.
            const ivec byte = nearest(iscale * scales[j]) << 24 >> 24;
            Ls[j] = (at_least(at_most(byte, 31 - (ivec){0}), -32 - (ivec){0}) + 32) & ~none;
        }
        d = pick(none, all(0), 1 / iscale);
    }
    float ds[16][WIDTH];
    block_q3_K unused;
    for (int lane = 0; lane < WIDTH; lane++) {
        block_q3_K *y = lane < lanes->count ? (block_q3_K *)lanes->y[lane] : &unused;
        pack_q3_scales(Ls, lane, y->scales);
        y->d = GGML_FP32_TO_FP16(d[lane]);
        for (int j = 0; j < 16; j++) {
            ds[j][lane] = GGML_FP16_TO_FP32(y->d) * (Ls[j][lane] - 32);
        }
    }
    for (int j = 0; j < 16; j++) {
        memcpy(&d, ds[j], sizeof d);
        round_again(16, -4, 3, x + 16 * j, d, d, false, L + 16 * j);
    }
    for (int j = 0; j < 32; j++) {
        high[j] = (ivec){0};
        for (int part = 0; part < 8; part++) {
            high[j] |= (L[32 * part + j] >> 2 & 1) << part;
            L[32 * part + j] &= 3;
        }
    }
    put(lanes, offsetof(block_q3_K, hmask), 32, high);
    pack_two_bits(lanes, offsetof(block_q3_K, qs), L);
}

static void quantize_Q6_K(const struct lanes *lanes) {
    vec x[256], w[16], scales[16], amax;
    ivec L[256], Ls[16], low[128], high[64];
    load(256, lanes->x, 0, x);
    for (int j = 0; j < 16; j++) {
        if (lanes->importance[0]) {
            load(16, lanes->importance, 16 * j, w);
        } else {
            squares(16, x + 16 * j, w);
        }
        scales[j] = search_scale(16, 32, x + 16 * j, w, true, L + 16 * j);
    }
    const vec iscale = -128.0f / largest(16, scales, &amax), d = 1 / iscale;
    const ivec none = amax < NO_SCALE_BELOW;
    for (int j = 0; j < 16; j++) {
        Ls[j] = at_most(nearest(iscale * scales[j]), 127 - (ivec){0}) & ~none;
    }
    float ds[16][WIDTH];
    block_q6_K unused;
    for (int lane = 0; lane < WIDTH; lane++) {
        block_q6_K *y = lane < lanes->count ? (block_q6_K *)lanes->y[lane] : &unused;
        y->d = GGML_FP32_TO_FP16(none[lane] ? 0.0f : d[lane]);
        for (int j = 0; j < 16; j++) {
            y->scales[j] = (int8_t)Ls[j][lane];
            ds[j][lane] = GGML_FP16_TO_FP32(y->d) * y->scales[j];
        }
    }
    for (int j = 0; j < 16; j++) {
        vec scale;
        memcpy(&scale, ds[j], sizeof scale);
        round_again(16, -32, 31, x + 16 * j, scale, scale, false, L + 16 * j);
    }
    for (int j = 0; j < 64; j++) {
        // A block without a scale is all zeros, whatever the search found.
        const ivec *l = L + j / 32 * 128 + j % 32;
        low[j / 32 * 64 + j % 32] = ((l[0] & 15) | (l[64] & 15) << 4) & ~none;
        low[j / 32 * 64 + j % 32 + 32] = ((l[32] & 15) | (l[96] & 15) << 4) & ~none;
        high[j] = (l[0] >> 4 | l[32] >> 4 << 2 | l[64] >> 4 << 4 | l[96] >> 4 << 6) & ~none;
    }
    put(lanes, offsetof(block_q6_K, ql), 128, low);
    put(lanes, offsetof(block_q6_K, qh), 64, high);
}
