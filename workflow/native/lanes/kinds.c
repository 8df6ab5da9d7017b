// The types at one level. LEVEL, its name, comes from the build; so do the compiler's flags.
#include "sub_blocks.h"
#include "super_blocks.h"

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define TEXT2(name) #name
#define TEXT(name) TEXT2(name)

#define KIND(name, weights, block, whole_row) \
    {GGML_TYPE_##name, weights, sizeof(block), whole_row, quantize_##name}

static const struct kind KINDS[] = {
    KIND(Q2_K, 256, block_q2_K, false),      KIND(Q3_K, 256, block_q3_K, false),
    KIND(Q4_K, 256, block_q4_K, false),      KIND(Q5_K, 256, block_q5_K, false),
    KIND(Q6_K, 256, block_q6_K, false),      KIND(Q4_0, 32, block_q4_0, true),
    KIND(Q4_1, 32, block_q4_1, true),        KIND(Q5_0, 32, block_q5_0, true),
    KIND(Q5_1, 32, block_q5_1, true),        KIND(IQ4_NL, 32, block_iq4_nl, false),
    KIND(IQ4_XS, 256, block_iq4_xs, false),
};

const struct level JOIN(lanes_, LEVEL) = {
    .name = TEXT(LEVEL), .width = WIDTH, .kinds = KINDS, .count = sizeof KINDS / sizeof *KINDS,
};
