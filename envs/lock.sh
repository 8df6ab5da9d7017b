#!/bin/sh
# Write every lock again from its .in file: `make lock` (uses the newest uv; review the diff).
set -eu
cd "$(dirname "$0")"
compile() { uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet "$@"; }
names() { sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' "$1"; }
omit() { printf '%s\n' "$1" | sed 's/^/--no-emit-package /' | tr '\n' ' '; }

compile workflow.in -o workflow.lock
# Imported beside the workflow's own packages, so what these hold already is left out, and has their versions.
# shellcheck disable=SC2046 # a list of options
compile datasets.in $(omit "$(names workflow.lock)") -o datasets.lock
compile test.in -o test.lock
compile bench.in -o bench.lock
compile slurm.in -o slurm.lock
compile fuzz.in -o fuzz.lock
compile site.in -o site.lock
compile cuda.in -o cuda.lock
# What only other benchmarks of EvalScope import, and what downloads data, which is done before: two thirds of the bytes.
# shellcheck disable=SC2046 # a list of options
compile harness.in $(sed 's/#.*//; s/^/--no-emit-package /; /package $/d' harness.omit) -o harness.lock
# torch is apart: its CPU build is on no package index that everybody has, and the ordinary one needs CUDA libraries.
compile converter.in -o torch.lock
kept=$(names torch.lock | grep -E '^(torch|triton|cuda-.*|nvidia-.*)$')
# shellcheck disable=SC2046 # lists of options
compile converter.in $(omit "$kept") -o converter.lock
# shellcheck disable=SC2046
compile converter.in $(omit "$(names torch.lock | grep -vxF "$kept")") -o torch.lock
