// One instruction set: a vector of WIDTH floats and what the kernels do with it.
//
// Every operation here is exact or an IEEE 754 operation that rounds to nearest once, so a lane holds the same bits
// whatever the width. LEVEL, the suffix of the functions, comes from the build; so do the compiler's flags. Where a vector
// is narrower than a group, a row is gone through several times: PIECE bytes of it at once, which stay in the first cache.
#pragma once

#include <stdint.h>
#include <string.h>

#define LANES 16

#if defined(__AVX512F__)

#include <immintrin.h>
#define WIDTH 16
#define TILE_ROWS 4
#define TILE_COLUMNS 6
#define PIECE 65536
typedef __m512 vec;

static inline vec vec_zero(void) { return _mm512_setzero_ps(); }
static inline vec vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm512_add_ps(_mm512_mul_ps(a, b), c); }
static inline vec vec_from_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline void vec_to_half(uint16_t *p, vec v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vec vec_from_even_bfloats(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}
static inline vec vec_from_odd_bfloats(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32((int)0xFFFF0000u)));
}

#elif defined(__AVX2__)

#include <immintrin.h>
#define WIDTH 8
#define TILE_ROWS 2
#define TILE_COLUMNS 5
#define PIECE 1024
typedef __m256 vec;

static inline vec vec_zero(void) { return _mm256_setzero_ps(); }
static inline vec vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vec_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline vec vec_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return _mm256_add_ps(_mm256_mul_ps(a, b), c); }
static inline vec vec_from_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline void vec_to_half(uint16_t *p, vec v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline vec vec_from_even_bfloats(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)p), 16));
}
static inline vec vec_from_odd_bfloats(const uint16_t *p) {
    const __m256i mask = _mm256_set1_epi32((int)0xFFFF0000u);
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), mask));
}

#elif defined(__ARM_NEON)

#include <arm_neon.h>
#define WIDTH 4
#define TILE_ROWS 4
#define TILE_COLUMNS 6
#define PIECE 1024
typedef float32x4_t vec;

static inline vec vec_zero(void) { return vdupq_n_f32(0.0f); }
static inline vec vec_load(const float *p) { return vld1q_f32(p); }
static inline void vec_store(float *p, vec v) { vst1q_f32(p, v); }
static inline vec vec_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec vec_mul_add(vec a, vec b, vec c) { return vaddq_f32(vmulq_f32(a, b), c); }
static inline vec vec_from_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline void vec_to_half(uint16_t *p, vec v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
static inline vec vec_from_even_bfloats(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(vld1q_u16(p)), 16));
}
static inline vec vec_from_odd_bfloats(const uint16_t *p) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u16(vld1q_u16(p)), vdupq_n_u32(0xFFFF0000u)));
}

#else

// Any processor, in plain C. A product of two bfloat16 or two half precision numbers has at most 22 significant bits
// and is exact in double; its sum with a float is exact there too, or far from any tie between floats. So rounding
// the double gives what a fused multiply-add gives. docs/portable.md has the proof.
#define WIDTH 4
#define TILE_ROWS 2
#define TILE_COLUMNS 2
#define PIECE 1024
typedef struct {
    float at[WIDTH];
} vec;

static inline float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline vec vec_zero(void) { return (vec){{0.0f}}; }
static inline vec vec_load(const float *p) {
    vec v;
    memcpy(v.at, p, sizeof v.at);
    return v;
}
static inline void vec_store(float *p, vec v) { memcpy(p, v.at, sizeof v.at); }
static inline vec vec_fma(vec a, vec b, vec c) {
    for (int i = 0; i < WIDTH; i++) {
        c.at[i] = (float)((double)a.at[i] * (double)b.at[i] + (double)c.at[i]);
    }
    return c;
}
static inline vec vec_mul_add(vec a, vec b, vec c) {
    for (int i = 0; i < WIDTH; i++) {
        c.at[i] = a.at[i] * b.at[i] + c.at[i];
    }
    return c;
}
static inline float float_from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t rest = half & 0x7FFFu;
    if (rest >= 0x7C00u) {
        return float_from_bits(sign | 0x7F800000u | (rest & 0x3FFu) << 13);
    }
    // Shifting puts the exponent off by 112; the multiplication mends it, and makes subnormal halves normal floats.
    return float_from_bits(sign | bits_of_float(float_from_bits(rest << 13) * 0x1p112f));
}
static inline uint16_t half_from_float(float value) {
    const uint32_t bits = bits_of_float(value), rest = bits & 0x7FFFFFFFu;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (rest > 0x7F800000u) {
        return (uint16_t)(sign | 0x7E00u);
    }
    if (rest >= 0x477FF000u) {
        return (uint16_t)(sign | 0x7C00u);
    }
    if (rest < 0x38800000u) {
        // Below 2^-14 a half counts in steps of 2^-24: adding 1/2 makes the float's own rounding do the same.
        return (uint16_t)(sign | (bits_of_float(float_from_bits(rest) + 0.5f) - 0x3F000000u));
    }
    return (uint16_t)(sign | (rest - 0x38000000u + 0xFFFu + (rest >> 13 & 1u)) >> 13);
}
static inline vec vec_from_half(const uint16_t *p) {
    vec v;
    for (int i = 0; i < WIDTH; i++) {
        v.at[i] = float_from_half(p[i]);
    }
    return v;
}
static inline void vec_to_half(uint16_t *p, vec v) {
    for (int i = 0; i < WIDTH; i++) {
        p[i] = half_from_float(v.at[i]);
    }
}
static inline vec vec_from_even_bfloats(const uint16_t *p) {
    vec v;
    for (int i = 0; i < WIDTH; i++) {
        v.at[i] = float_from_bits((uint32_t)p[2 * i] << 16);
    }
    return v;
}
static inline vec vec_from_odd_bfloats(const uint16_t *p) { return vec_from_even_bfloats(p + 1); }

#endif
