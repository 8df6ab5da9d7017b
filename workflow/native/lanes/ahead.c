// llama.cpp's functions by their own names, for a library that is loaded ahead of libggml-base (LD_PRELOAD): rows go to
// the lanes, and what these do not know to llama.cpp's own function, which is the next one of that name.
//
// One row in a hundred, drawn by a seed that is said, is quantized by llama.cpp's own function too. One byte that
// differs ends the program.
#define _GNU_SOURCE
#include "lanes.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ggml.h"

enum { ONE_IN = 100 };

typedef size_t quantize_function(const float *, void *, int64_t, int64_t, const float *);

static bool loaded_ahead;
static uint64_t seed;
static atomic_uint_fast64_t done, repeated;

__attribute__((constructor)) static void begin(void) {
    // Whoever opens the library by himself, as an audit does, calls no function of llama.cpp's names.
    loaded_ahead = getenv("LD_PRELOAD") != NULL;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Said of no row too: that the library was there.
__attribute__((destructor)) static void end(void) {
    if (loaded_ahead) {
        fprintf(stderr,
                "requant: lanes, level %s: %" PRIu64 " rows, %" PRIu64 " of them also by llama.cpp, seed %" PRIu64 "\n",
                requant_level(), (uint64_t)done, (uint64_t)repeated, seed);
    }
}

// splitmix64's finalizer: neighbouring numbers give unrelated ones.
static uint64_t mixed(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

// FNV-1a.
static uint64_t digest(const uint8_t *bytes, size_t n) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    }
    return hash;
}

static void repeat(quantize_function *own, const char *type, const float *x, const uint8_t *y, int64_t row,
                   int64_t columns, size_t bytes, const float *importance) {
    uint8_t *again = malloc(bytes);
    if (!again) {
        fprintf(stderr, "requant: no memory for a row of %zu bytes\n", bytes);
        _Exit(1);
    }
    own(x + row * columns, again, 1, columns, importance);
    atomic_fetch_add(&repeated, 1);
    if (memcmp(again, y + (size_t)row * bytes, bytes) != 0) {
        // The tool may be in the middle of a line.
        fprintf(stderr,
                "\nrequant: lanes of level %s differ from llama.cpp in row %" PRId64 " of a part in %s with %" PRId64
                " columns: digests %016" PRIx64 " and %016" PRIx64 ", seed %" PRIu64 "\n",
                requant_level(), row, type, columns, digest(y + (size_t)row * bytes, bytes), digest(again, bytes),
                seed);
        _Exit(1);
    }
    free(again);
}

static size_t ahead(quantize_function *own, int type, const char *name, const float *x, void *y, int64_t rows,
                    int64_t columns, const float *importance) {
    const size_t bytes = requant_quantize(type, x, y, rows, columns, importance);
    if (!bytes) {
        return own(x, y, rows, columns, importance);
    }
    const uint64_t first = atomic_fetch_add(&done, (uint64_t)rows);
    for (int64_t row = 0; row < rows; row++) {
        if (mixed(seed + first + (uint64_t)row) % ONE_IN == 0) {
            repeat(own, name, x, y, row, columns, bytes, importance);
        }
    }
    return (size_t)rows * bytes;
}

#define AHEAD(name, type)                                                                                            \
    SEEN size_t quantize_##name(const float *x, void *y, int64_t rows, int64_t columns, const float *importance) {   \
        quantize_function *own = (quantize_function *)dlsym(RTLD_NEXT, "quantize_" #name);                           \
        return ahead(own, GGML_TYPE_##type, #type, x, y, rows, columns, importance);                                 \
    }

AHEAD(q2_K, Q2_K)
AHEAD(q3_K, Q3_K)
AHEAD(q4_K, Q4_K)
AHEAD(q5_K, Q5_K)
AHEAD(q6_K, Q6_K)
AHEAD(q4_0, Q4_0)
AHEAD(q4_1, Q4_1)
AHEAD(q5_0, Q5_0)
AHEAD(q5_1, Q5_1)
AHEAD(iq4_nl, IQ4_NL)
AHEAD(iq4_xs, IQ4_XS)
