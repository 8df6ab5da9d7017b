// Prints a digest of what each kernel and each function of workflow/native makes of the same pseudorandom numbers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

float expf(float), expm1f(float), logf(float), sinf(float), cosf(float), tanhf(float), erff(float);
float powf(float, float);

enum { ROWS = 37, COLUMNS = 41, K = 130, COUNT = 20000 };

static uint64_t state = 2507;

static uint32_t next(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

// A finite float whose exponent lies in [-reach, reach].
static float number(int reach) {
    const uint32_t exponent = 127u - (uint32_t)reach + next() % (2u * (uint32_t)reach + 1u);
    const uint32_t bits = (next() & 0x807FFFFFu) | exponent << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void print(const char *name, const void *data, size_t size) {
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    }
    printf("%s %016llx\n", name, (unsigned long long)hash);
}

static void multiply(const char *name, enum element type, uint16_t mask) {
    static float a[ROWS * K], b[COLUMNS * K], c[ROWS * COLUMNS];
    uint16_t *const halves[] = {(uint16_t *)a, (uint16_t *)b};
    const int counts[] = {ROWS * K, COLUMNS * K};
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < counts[side]; i++) {
            if (type == ELEMENT_F32) {
                (side ? b : a)[i] = number(30);
            } else {
                halves[side][i] = (uint16_t)next() & mask;
            }
        }
    }
    const struct product product = {ROWS, COLUMNS, K, a, b, K, K, c, ROWS, type};
    kernels_baseline.multiply(&product, 0, 1);
    print(name, c, sizeof c);
}

static float x[COUNT], y[COUNT], g[COUNT];

static void apply(const char *name, float (*function)(float)) {
    for (int i = 0; i < COUNT; i++) {
        y[i] = function(function == logf && x[i] < 0 ? -x[i] : x[i]);
    }
    print(name, y, sizeof y);
}

int main(void) {
    static uint16_t shorts[COUNT];
    multiply("f32", ELEMENT_F32, 0);
    multiply("f16", ELEMENT_F16, 0xBBFF);   // no infinity: the exponent's highest bits are not all set
    multiply("bf16", ELEMENT_BF16, 0xDFFF);
    for (int i = 0; i < COUNT; i++) {
        x[i] = number(7);
        g[i] = number(3);
    }
    const double sum = kernels_baseline.soft_max(COUNT - 3, y, x, 100.0f);
    print("soft_max", y, sizeof y);
    print("sum", &sum, sizeof sum);
    kernels_baseline.silu(COUNT - 5, y, x, g);
    print("silu", y, sizeof y);
    kernels_baseline.to_half(COUNT - 1, shorts, x);
    print("to_half", shorts, sizeof shorts);
    kernels_baseline.to_bfloat(COUNT, shorts, x);
    print("to_bfloat", shorts, sizeof shorts);
    apply("expf", expf);
    apply("expm1f", expm1f);
    apply("logf", logf);
    apply("sinf", sinf);
    apply("cosf", cosf);
    apply("tanhf", tanhf);
    apply("erff", erff);
    for (int i = 0; i < COUNT; i++) {
        y[i] = powf(x[i] < 0 ? -x[i] : x[i], g[i]);
    }
    print("powf", y, sizeof y);
    return 0;
}
