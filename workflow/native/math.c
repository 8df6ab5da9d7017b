// The functions of libm that ggml's inference calls, in double precision and from additions, multiplications and
// divisions alone, rounded to float at the end. A C library picks other code for other processors; this has one.
//
// Hidden, so that every call inside the library is bound here when it is linked.
#include "exponential.h"

#define EXACT __attribute__((visibility("hidden")))

static double double_from_bits(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of_double(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

EXACT float expf(float x) { return (float)exponential_of_float((double)x); }

EXACT float expm1f(float x) {
    const double d = x;
    // Below 2^-10 the first terms of the series; above, what cancels is far below a float's precision.
    if (d > -0x1p-10 && d < 0x1p-10) {
        return (float)(d + d * d * (0.5 + d * (1.0 / 6.0 + d * (1.0 / 24.0))));
    }
    return (float)(exponential_of_float(d) - 1.0);
}

// ln x for normal positive x: x = 2^n m with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m - 1) / (m + 1)).
static double logarithm(double x) {
    const uint64_t bits = bits_of_double(x);
    int64_t n = (int64_t)(bits >> 52) - 1023;
    double m = double_from_bits((bits & 0x000FFFFFFFFFFFFFu) | 0x3FF0000000000000u);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m = m * 0.5;
        n++;
    }
    const double s = (m - 1.0) / (m + 1.0), z = s * s;
    double p = 1.0 / 19.0;
    for (int k = 17; k >= 3; k -= 2) {
        p = p * z + 1.0 / (double)k;
    }
    return (double)n * 0x1.62e42fefa39efp-1 + 2.0 * (s + s * z * p);
}

EXACT float logf(float x) {
    if (x != x || x > 0x1.fffffep127f) {
        return x;
    }
    if (x <= 0.0f) {
        return x == 0.0f ? -__builtin_inff() : __builtin_nanf("");
    }
    return (float)logarithm((double)x);
}

// ggml raises positive bases (RoPE's frequency base, ALiBi's slopes); a negative base gives NaN unless y is whole.
EXACT float powf(float x, float y) {
    const double exponent = y;
    if (exponent == 0.0 || x == 1.0f) {
        return 1.0f;
    }
    if (x != x || y != y) {
        return x + y;
    }
    const double magnitude = x < 0.0f ? -(double)x : (double)x;
    const double large = exponent < 0.0 ? -exponent : exponent;
    const int whole = large >= 0x1p24 || (double)(int64_t)exponent == exponent;
    const int odd = whole && large < 0x1p24 && ((int64_t)exponent & 1);
    if (x < 0.0f && !whole) {
        return __builtin_nanf("");
    }
    double power;
    if (magnitude == 0.0) {
        power = exponent > 0.0 ? 0.0 : (double)__builtin_inff();
    } else if (magnitude > 0x1.fffffep127) {
        power = exponent > 0.0 ? magnitude : 0.0;
    } else {
        power = exponential_of_float(exponent * logarithm(magnitude));
    }
    const int negative = (x < 0.0f || (x == 0.0f && 1.0f / x < 0.0f)) && odd;
    return (float)(negative ? -power : power);
}

// Sine (quarter 0) or cosine (quarter 1) of x: x = n pi/2 + r with pi/2 in three parts of 33 bits. Exact enough for
// |x| < 2^20, which is more than any position a calibration reaches; beyond, less accurate but still one value.
static float sine(float x, int quarter) {
    const double shift = 0x1.8p52, d = x;
    if (!(d > -0x1p40 && d < 0x1p40)) {
        return __builtin_nanf("");
    }
    const double shifted = d * 0x1.45f306dc9c883p-1 + shift;
    const double n = shifted - shift;
    const double r = ((d - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
    const double z = r * r;
    const uint64_t turn = bits_of_double(shifted) + (uint64_t)quarter;
    double p;
    if (turn & 1) {
        p = -1.0 / 87178291200.0;
        p = p * z + 1.0 / 479001600.0;
        p = p * z - 1.0 / 3628800.0;
        p = p * z + 1.0 / 40320.0;
        p = p * z - 1.0 / 720.0;
        p = p * z + 1.0 / 24.0;
        p = p * z - 0.5;
        p = p * z + 1.0;
    } else {
        p = 1.0 / 6227020800.0;
        p = p * z - 1.0 / 39916800.0;
        p = p * z + 1.0 / 362880.0;
        p = p * z - 1.0 / 5040.0;
        p = p * z + 1.0 / 120.0;
        p = p * z - 1.0 / 6.0;
        p = p * z * r + r;
    }
    return (float)(turn & 2 ? -p : p);
}

EXACT float sinf(float x) { return sine(x, 0); }

EXACT float cosf(float x) { return sine(x, 1); }

EXACT void sincosf(float x, float *s, float *c) {
    *s = sine(x, 0);
    *c = sine(x, 1);
}

EXACT float tanhf(float x) {
    const double d = x < 0.0f ? -(double)x : (double)x;
    double t;
    if (d < 0x1p-10) {
        t = d - d * d * d * (1.0 / 3.0);
    } else {
        const double e = exponential_of_float(-2.0 * (d > 50.0 ? 50.0 : d));
        t = (1.0 - e) / (1.0 + e);
    }
    return (float)(x < 0.0f ? -t : t);
}

// erf x = 2 / sqrt(pi) exp(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ...): all terms positive, so nothing cancels.
EXACT float erff(float x) {
    const double d = x < 0.0f ? -(double)x : (double)x;
    double e = 1.0;
    if (!(d > 4.0)) {
        double term = d, sum = d;
        for (int k = 1; k < 80; k++) {
            term = term * (2.0 * d * d) / (double)(2 * k + 1);
            sum = sum + term;
        }
        e = 0x1.20dd750429b6dp+0 * exponential_of_float(-d * d) * sum;
    }
    return (float)(x < 0.0f ? -e : e);
}
