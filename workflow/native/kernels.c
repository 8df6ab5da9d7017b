// Dot products, the matrix product and the exponential loops, for one instruction set.
//
// A dot product has 16 lanes. Elements are padded with zeros to whole groups; a group has 32 bfloat16, 16 half or 16
// float. Lane l takes elements 2l and 2l+1 of a bfloat16 group, in this order, or element l of the others, and adds
// each product to what it holds: fused for bfloat16 and half, as a rounded product for float. Then lanes l and l+8
// are added, l and l+4, l and l+2, and the last two. Every output is computed by itself, so tiles, threads and the
// width of the vectors do not show in the result.
#include "kernels.h"

#include "exponential.h"
#include "level.h"

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define INLINE static inline __attribute__((always_inline))

enum { MAX_ROWS = TILE_ROWS, MAX_COLUMNS = TILE_COLUMNS, BLOCK_ROWS = 4 * TILE_ROWS, BLOCK_COLUMNS = 16 * TILE_COLUMNS };

static const size_t GROUP[] = {[ELEMENT_F32] = LANES, [ELEMENT_F16] = LANES, [ELEMENT_BF16] = 2 * LANES};
static const size_t BYTES[] = {[ELEMENT_F32] = 4, [ELEMENT_F16] = 2, [ELEMENT_BF16] = 2};

// The sums of `count` times 16 lanes. Each loop adds one level of all trees, so that it becomes vector code.
INLINE void sum_lanes(int count, float (*lanes)[LANES], float *sums) {
    float eight[MAX_ROWS * MAX_COLUMNS][8], four[MAX_ROWS * MAX_COLUMNS][4];
    for (int n = 0; n < count; n++) {
        for (int i = 0; i < 8; i++) {
            eight[n][i] = lanes[n][i] + lanes[n][i + 8];
        }
    }
    for (int n = 0; n < count; n++) {
        for (int i = 0; i < 4; i++) {
            four[n][i] = eight[n][i] + eight[n][i + 4];
        }
    }
    for (int n = 0; n < count; n++) {
        sums[n] = (four[n][0] + four[n][2]) + (four[n][1] + four[n][3]);
    }
}

// Which elements of a group: all of them, or every other one.
enum part { ALL, EVEN, ODD };

INLINE vec widen(enum element type, enum part part, const char *p) {
    switch (type) {
        case ELEMENT_F16: return vec_from_half((const uint16_t *)p);
        case ELEMENT_BF16:
            return part == EVEN ? vec_from_even_bfloats((const uint16_t *)p) : vec_from_odd_bfloats((const uint16_t *)p);
        default: return vec_load((const float *)p);
    }
}

// Some elements of every row and column, from byte `at` on, into the accumulators.
INLINE void add_part(enum element type, enum part part, int rows, int columns, const char *const *a,
                     const char *const *b, size_t at, vec acc[MAX_ROWS][MAX_COLUMNS]) {
    vec row[MAX_ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        row[i] = widen(type, part, a[i] + at);
    }
#pragma GCC unroll 8
    for (int j = 0; j < columns; j++) {
        const vec column = widen(type, part, b[j] + at);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            acc[i][j] = type == ELEMENT_F32 ? vec_mul_add(row[i], column, acc[i][j]) : vec_fma(row[i], column, acc[i][j]);
        }
    }
}

// One group of every row and column, from byte `at` on, into the accumulators of the lanes from `lane` on.
INLINE void add_group(enum element type, int rows, int columns, const char *const *a, const char *const *b, size_t at,
                      int lane, vec acc[MAX_ROWS][MAX_COLUMNS]) {
    at += GROUP[type] / LANES * BYTES[type] * (size_t)lane;
    if (type == ELEMENT_BF16) {
        add_part(type, EVEN, rows, columns, a, b, at, acc);
        add_part(type, ODD, rows, columns, a, b, at, acc);
    } else {
        add_part(type, ALL, rows, columns, a, b, at, acc);
    }
}

// Adds whole groups, bytes [begin, end) of every row and column, to what the lanes of `rows` x `columns` outputs hold.
INLINE void add_groups(enum element type, int rows, int columns, const char *const *a, const char *const *b,
                       size_t begin, size_t end, float (*lanes)[LANES]) {
    for (int lane = 0; lane < LANES; lane += WIDTH) {
        vec acc[MAX_ROWS][MAX_COLUMNS];
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < columns; j++) {
                acc[i][j] = vec_load(&lanes[j * rows + i][lane]);
            }
        }
        for (size_t at = begin; at < end; at += GROUP[type] * BYTES[type]) {
            add_group(type, rows, columns, a, b, at, lane, acc);
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < columns; j++) {
                vec_store(&lanes[j * rows + i][lane], acc[i][j]);
            }
        }
    }
}

// Adds the elements after the last whole group, filled up with zeros.
INLINE void add_rest(enum element type, int rows, int columns, const char *const *a, const char *const *b, size_t begin,
                     size_t end, float (*lanes)[LANES]) {
    char rest[MAX_ROWS + MAX_COLUMNS][4 * LANES] = {{0}};
    const char *rest_a[MAX_ROWS], *rest_b[MAX_COLUMNS];
    for (int i = 0; i < rows; i++) {
        rest_a[i] = memcpy(rest[i], a[i] + begin, end - begin);
    }
    for (int j = 0; j < columns; j++) {
        rest_b[j] = memcpy(rest[MAX_ROWS + j], b[j] + begin, end - begin);
    }
    add_groups(type, rows, columns, rest_a, rest_b, 0, GROUP[type] * BYTES[type], lanes);
}

// Adds bytes [begin, end) of the rows' and columns' `all` bytes; only the last piece may end within a group.
INLINE void add_piece(enum element type, int rows, int columns, const char *const *a, const char *const *b, size_t begin,
                      size_t end, float (*lanes)[LANES]) {
    const size_t whole = end - (end - begin) % (GROUP[type] * BYTES[type]);
    add_groups(type, rows, columns, a, b, begin, whole, lanes);
    if (whole < end) {
        add_rest(type, rows, columns, a, b, whole, end, lanes);
    }
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// All outputs of rows [row, row_end) and TILE_COLUMNS columns from `column` on. It goes piece by piece along the rows, so
// that what the tiles share stays in the first cache however long the rows are. A tile that would reach past the last row
// or column computes that one several times.
INLINE void strip(const struct product *p, enum element type, int64_t row, int64_t row_end, int64_t column,
                  int64_t column_end) {
    const size_t bytes = BYTES[type], all = (size_t)p->k * bytes;
    const char *a[BLOCK_ROWS], *b[TILE_COLUMNS];
    float lanes[BLOCK_ROWS / TILE_ROWS][TILE_ROWS * TILE_COLUMNS][LANES] = {{{0.0f}}};
    float out[TILE_ROWS * TILE_COLUMNS];
    for (int j = 0; j < TILE_COLUMNS; j++) {
        b[j] = (const char *)p->b + (size_t)(least(column + j, column_end - 1) * p->ldb) * bytes;
    }
    for (int i = 0; i < BLOCK_ROWS; i++) {
        a[i] = (const char *)p->a + (size_t)(least(row + i, row_end - 1) * p->lda) * bytes;
    }
    for (size_t at = 0; at < all; at += PIECE) {
        const size_t end = at + PIECE < all ? at + PIECE : all;
        for (int i = 0; row + i < row_end; i += TILE_ROWS) {
            add_piece(type, TILE_ROWS, TILE_COLUMNS, a + i, b, at, end, lanes[i / TILE_ROWS]);
        }
    }
    for (int i0 = 0; row + i0 < row_end; i0 += TILE_ROWS) {
        sum_lanes(TILE_ROWS * TILE_COLUMNS, lanes[i0 / TILE_ROWS], out);
        for (int j = 0; j < TILE_COLUMNS && column + j < column_end; j++) {
            for (int i = 0; i < TILE_ROWS && row + i0 + i < row_end; i++) {
                p->c[(column + j) * p->ldc + row + i0 + i] = out[j * TILE_ROWS + i];
            }
        }
    }
}

INLINE void share(const struct product *p, enum element type, int thread, int threads) {
    const int64_t down = (p->rows + BLOCK_ROWS - 1) / BLOCK_ROWS, across = (p->columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    const int64_t blocks = down * across;
    for (int64_t at = blocks * thread / threads; at < blocks * (thread + 1) / threads; at++) {
        const int64_t row = at / across * BLOCK_ROWS, column = at % across * BLOCK_COLUMNS;
        const int64_t row_end = least(row + BLOCK_ROWS, p->rows), column_end = least(column + BLOCK_COLUMNS, p->columns);
        for (int64_t j = column; j < column_end; j += TILE_COLUMNS) {
            strip(p, type, row, row_end, j, column_end);
        }
    }
}

INLINE void dot(const struct product *p, enum element type) {
    const char *a[1] = {p->a}, *b[1] = {p->b};
    float lanes[1][LANES] = {{0.0f}};
    add_piece(type, 1, 1, a, b, 0, (size_t)p->k * BYTES[type], lanes);
    sum_lanes(1, lanes, p->c);
}

static void multiply(const struct product *p, int thread, int threads) {
    const bool single = p->rows == 1 && p->columns == 1;
    switch (p->type) {
        case ELEMENT_F32: single ? dot(p, ELEMENT_F32) : share(p, ELEMENT_F32, thread, threads); break;
        case ELEMENT_F16: single ? dot(p, ELEMENT_F16) : share(p, ELEMENT_F16, thread, threads); break;
        case ELEMENT_BF16: single ? dot(p, ELEMENT_BF16) : share(p, ELEMENT_BF16, thread, threads); break;
    }
}

// The sum has 16 lanes too: lane l takes elements l, l + 16, ...
static double soft_max(int n, float *y, const float *x, float max) {
    double lane[LANES] = {0.0};
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            y[i + l] = (float)exponential_of_float((double)(x[i + l] - max));
            lane[l] += (double)y[i + l];
        }
    }
    for (int l = 0; i + l < n; l++) {
        y[i + l] = (float)exponential_of_float((double)(x[i + l] - max));
        lane[l] += (double)y[i + l];
    }
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) {
            lane[l] += lane[l + half];
        }
    }
    return lane[0];
}

INLINE float silu_of(float x) { return (float)((double)x / (1.0 + exponential_of_float(-(double)x))); }

static void silu(int n, float *y, const float *x, const float *g) {
    if (g) {
        for (int i = 0; i < n; i++) {
            y[i] = silu_of(x[i]) * g[i];
        }
    } else {
        for (int i = 0; i < n; i++) {
            y[i] = silu_of(x[i]);
        }
    }
}

static void to_half(int64_t n, uint16_t *y, const float *x) {
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        vec_to_half(y + i, vec_load(x + i));
    }
    float rest[WIDTH] = {0.0f};
    uint16_t halves[WIDTH];
    memcpy(rest, x + i, (size_t)(n - i) * sizeof *x);
    vec_to_half(halves, vec_load(rest));
    memcpy(y + i, halves, (size_t)(n - i) * sizeof *y);
}

// To nearest, ties to even; NaN stays NaN. The bits are ggml's.
static void to_bfloat(int64_t n, uint16_t *y, const float *x) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
        const uint32_t nan = bits >> 16 | 64u;
        y[i] = (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
    }
}

#define TEXT2(a) #a
#define TEXT(a) TEXT2(a)
const struct kernels JOIN(kernels_, LEVEL) = {TEXT(LEVEL), multiply, soft_max, silu, to_half, to_bfloat};
