/* Quantizes rows as llama-quantize does, with ggml's own code, in whatever arithmetic this was compiled for:
   TYPE ROWS COLUMNS WEIGHTS IMPORTANCE|- OUT, all float32 files. With -DLANES by the lanes alone. */
#include "ggml.h"

#ifdef LANES
#include "lanes.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ggml.c guards its tables with these; there is one thread here. */
void ggml_critical_section_start(void) {}
void ggml_critical_section_end(void) {}

static float * read_floats(const char * path, size_t count) {
    float * values = malloc(count * sizeof(float));
    FILE * file = fopen(path, "rb");
    if (!values || !file || fread(values, sizeof(float), count, file) != count) {
        exit(1);
    }
    fclose(file);
    return values;
}

int main(int argc, char ** argv) {
    if (argc != 7) {
        return 2;
    }
    const enum ggml_type type = (enum ggml_type) atoi(argv[1]);
    const long rows = atol(argv[2]), columns = atol(argv[3]);
    const float * weights = read_floats(argv[4], rows * columns);
    const float * importance = strcmp(argv[5], "-") ? read_floats(argv[5], columns) : NULL;
    const size_t size = rows * ggml_row_size(type, columns);
    void * out = malloc(size);
#ifdef LANES
    if (requant_quantize(type, weights, out, rows, columns, importance) == 0) {
        return 3;
    }
#else
    ggml_quantize_chunk(type, weights, out, 0, rows, columns, importance);
#endif
    FILE * file = fopen(argv[6], "wb");
    return !file || fwrite(out, 1, size, file) != size || fclose(file);
}
