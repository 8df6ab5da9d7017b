// One instruction set: vectors of WIDTH numbers, one for each lane, and what GCC's vector extension has no sign for.
//
// Every operation is exact or an IEEE 754 operation that rounds to nearest once, so a lane holds the bits that the same
// line of scalar code would, whatever WIDTH is.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include <immintrin.h>
#define WIDTH 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define WIDTH 8
#else
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif
#define WIDTH 4
#endif

typedef float vec __attribute__((vector_size(4 * WIDTH)));
// Whole numbers, and what a comparison gives: all bits of a lane, or none.
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH)));

#if defined(__AVX512F__)

INLINE vec pick(ivec mask, vec yes, vec no) {
    return (vec)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), (__m512)no, (__m512)yes);
}
INLINE ivec at_most(ivec a, ivec b) { return (ivec)_mm512_min_epi32((__m512i)a, (__m512i)b); }
INLINE ivec at_least(ivec a, ivec b) { return (ivec)_mm512_max_epi32((__m512i)a, (__m512i)b); }
// `less` where a is less than b, else, NaN included, `other`.
INLINE vec pick_less(vec a, vec b, vec less, vec other) {
    return (vec)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ), (__m512)other, (__m512)less);
}
INLINE vec between(vec low, vec high, vec a) {
    return (vec)_mm512_max_ps(_mm512_min_ps((__m512)a, (__m512)high), (__m512)low);
}
INLINE vec root(vec a) { return (vec)_mm512_sqrt_ps((__m512)a); }

#elif defined(__AVX2__)

INLINE vec pick(ivec mask, vec yes, vec no) { return (vec)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask); }
INLINE ivec at_most(ivec a, ivec b) { return (ivec)_mm256_min_epi32((__m256i)a, (__m256i)b); }
INLINE ivec at_least(ivec a, ivec b) { return (ivec)_mm256_max_epi32((__m256i)a, (__m256i)b); }
INLINE vec pick_less(vec a, vec b, vec less, vec other) { return pick(a < b, less, other); }
INLINE vec between(vec low, vec high, vec a) {
    return (vec)_mm256_max_ps(_mm256_min_ps((__m256)a, (__m256)high), (__m256)low);
}
INLINE vec root(vec a) { return (vec)_mm256_sqrt_ps((__m256)a); }

#else

INLINE vec pick(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
INLINE vec pick_less(vec a, vec b, vec less, vec other) { return pick(a < b, less, other); }
INLINE vec between(vec low, vec high, vec a) {
    a = pick(a < high, a, high);
    return pick(a > low, a, low);
}
#if defined(__ARM_NEON)
INLINE ivec at_most(ivec a, ivec b) { return (ivec)vminq_s32((int32x4_t)a, (int32x4_t)b); }
INLINE ivec at_least(ivec a, ivec b) { return (ivec)vmaxq_s32((int32x4_t)a, (int32x4_t)b); }
INLINE vec root(vec a) { return (vec)vsqrtq_f32((float32x4_t)a); }
#else
INLINE ivec at_most(ivec a, ivec b) { return (ivec)pick(a < b, (vec)a, (vec)b); }
INLINE ivec at_least(ivec a, ivec b) { return (ivec)pick(a > b, (vec)a, (vec)b); }
INLINE vec root(vec a) { return (vec){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
#endif

#endif

// A number in every lane. Subtracting 0 keeps the sign of -0.
INLINE vec all(float value) { return value - (vec){0}; }
INLINE vec magnitude(vec a) { return (vec)((ivec)a & 0x7FFFFFFF); }
INLINE vec negative(vec a) { return (vec)((ivec)a ^ (int32_t)0x80000000); }
INLINE vec float_of(ivec a) { return __builtin_convertvector(a, vec); }
// The whole number next to a float, as llama.cpp's nearest_int takes it from the float's bits.
INLINE ivec nearest(vec a) { return ((ivec)(a + 12582912.0f) & 0x007FFFFF) - 0x00400000; }
INLINE ivec nearest_between(int32_t low, int32_t high, vec a) {
    return at_least(at_most(nearest(a), high - (ivec){0}), low - (ivec){0});
}
// The same as a float, of numbers of magnitude up to MOST_NEAREST: there the sum's last bit is worth 1.
#define MOST_NEAREST 4194303.0f
INLINE vec nearest_small_between(float low, float high, vec a) {
    return between(all(low), all(high), (a + 12582912.0f) - 12582912.0f);
}
INLINE int any(ivec mask) {
    int32_t lanes[WIDTH], found = 0;
    memcpy(lanes, &mask, sizeof lanes);
    for (int lane = 0; lane < WIDTH; lane++) {
        found |= lanes[lane];
    }
    return found != 0;
}
