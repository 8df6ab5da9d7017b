/* llama.cpp's quantization as a WebAssembly module: what an audit calls where there is no compiler. `make wasm` builds it
   from this file and the proven ggml.c and ggml-quants.c; requant.toolchain.wasm_library runs it. */
#include "ggml.h"

#include <stdlib.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

/* ggml.c guards its tables with these; an instance of the module has one thread. */
void ggml_critical_section_start(void) {}
void ggml_critical_section_end(void) {}

void * EXPORT(allocate)(size_t size) { return malloc(size); }

void EXPORT(release)(void * memory) { free(memory); }

/* As llama-quantize does it: rows of float32, and importances for the columns or none. */
void EXPORT(quantize)(int type, const float * weights, void * out, int rows, int columns, const float * importance) {
    ggml_quantize_init((enum ggml_type) type);
    ggml_quantize_chunk((enum ggml_type) type, weights, out, 0, rows, columns, importance);
}

void EXPORT(dequantize)(int type, const void * data, float * out, int count) {
    ggml_get_type_traits((enum ggml_type) type)->to_float(data, out, count);
}
