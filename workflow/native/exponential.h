// exp(x) in double precision, from additions and multiplications alone.
#pragma once

#include <stdint.h>
#include <string.h>

// For |x| <= 700, with a relative error below 1e-12; callers clamp. Compilers may turn a loop over it into vector
// code, which computes the same operations in the same order for each element.
static inline double exponential(double x) {
    const double shift = 0x1.8p52;  // adding it leaves the nearest integer in the low bits
    const double shifted = x * 0x1.71547652b82fep+0 + shift;
    const double n = shifted - shift;
    const double r = (x - n * 0x1.62e42fefa0000p-1) - n * 0x1.cf79abc9e3b3ap-40;  // ln 2 in two parts
    double p = 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;  // 2^n
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

// exp(x) where the result is to be a float: outside these bounds it is 0 or infinity, and NaN stays NaN.
static inline double exponential_of_float(double x) {
    x = x < -110.0 ? -110.0 : x;
    x = x > 100.0 ? 100.0 : x;
    return exponential(x);
}
