# Cross-compile for ARM64 Linux, with the compilers named in CC and CXX.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
