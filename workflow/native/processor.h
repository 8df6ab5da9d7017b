// Which instruction sets this processor has, and which of them REQUANT_LEVEL asks for. No result depends on it.
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

// What -march=x86-64-v3 and -v4 may use. The operating system's part, saving the registers, is in the builtins.
static bool has_v3(void) {
    unsigned a, b, c = 0, d, extended = 0;
    __builtin_cpu_init();
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) && (c & bit_MOVBE) &&
           __get_cpuid(0x80000001, &a, &b, &extended, &d) && (extended & bit_LZCNT) && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
static bool has_v4(void) {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static bool has_baseline(void) { return true; }

// NULL for the best one.
static const char *wanted_level(void) { return getenv("REQUANT_LEVEL"); }

// Whether a level is to be used; ends the program where it is asked for and the processor lacks it.
static bool may_use(const char *name, const char *wanted, bool (*supported)(void)) {
    if (wanted && strcmp(wanted, name) != 0) {
        return false;
    }
    if (wanted && !supported()) {
        fprintf(stderr, "requant: this processor lacks level %s: unset REQUANT_LEVEL\n", wanted);
        exit(1);
    }
    return supported();
}

static void require_level(bool found, const char *wanted) {
    if (!found) {
        fprintf(stderr, "requant: REQUANT_LEVEL is %s, which is no level here: unset it\n", wanted);
        exit(1);
    }
}
