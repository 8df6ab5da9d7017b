# How the tools are compiled, for speed of compiling alone: what computes keeps its flags. CMake includes this file in
# llama.cpp's own project (CMAKE_PROJECT_INCLUDE), which stays as it is; the targets are looked at once all are known.
if(NOT PROJECT_NAME STREQUAL "llama.cpp")
  return()
endif()

function(compile_faster)
  # A backend links with libggml-base, but the one at work is the strict tools' own.
  if(TARGET ggml-cpu OR TARGET ggml-cuda)
    target_compile_options(ggml-base PRIVATE -O0)
    return()
  endif()
  # Command lines, chat templates, the server and what lays out graphs compute nothing.
  foreach(target llama llama-common llama-common-base cpp-httplib mtmd server-context llama-server-impl)
    if(TARGET ${target})
      target_compile_options(${target} PRIVATE -O1)
    endif()
  endforeach()
  # Without precompiled headers: GCC 12 crashes on those of another level.
  foreach(source llama-quant llama-sampler llama-vocab unicode)
    set_source_files_properties(
      ${PROJECT_SOURCE_DIR}/src/${source}.cpp
      TARGET_DIRECTORY llama PROPERTIES COMPILE_OPTIONS -O3 SKIP_PRECOMPILE_HEADERS ON)
  endforeach()
  # Which files can be compiled together was tried for one commit; others are compiled file by file.
  if(NOT LLAMA_BUILD_COMMIT STREQUAL "0c1e57098bba" OR NOT TARGET llama-server-impl)
    return()
  endif()
  set(json ${PROJECT_SOURCE_DIR}/vendor/nlohmann/json.hpp)
  set(common ${PROJECT_SOURCE_DIR}/common/common.h ${PROJECT_SOURCE_DIR}/common/chat.h)
  foreach(target llama-common server-context llama-server-impl)
    target_precompile_headers(${target} PRIVATE ${json} ${common} <algorithm> <fstream> <functional> <regex> <thread>)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 6)
  endforeach()
  target_precompile_headers(llama PRIVATE ${PROJECT_SOURCE_DIR}/src/models/models.h)
  set_target_properties(llama PROPERTIES UNITY_BUILD_BATCH_SIZE 40)
  target_precompile_headers(mtmd PRIVATE ${PROJECT_SOURCE_DIR}/tools/mtmd/models/models.h)
  set_target_properties(mtmd PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 24)
  # One specializes templates that others use before, the others refuse mtmd's inner headers.
  set_source_files_properties(
    ${PROJECT_SOURCE_DIR}/common/json.cpp
    TARGET_DIRECTORY llama-common PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  set_source_files_properties(
    ${PROJECT_SOURCE_DIR}/tools/mtmd/mtmd-helper.cpp ${PROJECT_SOURCE_DIR}/tools/mtmd/mtmd-helper-gen.cpp
    TARGET_DIRECTORY mtmd PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON SKIP_PRECOMPILE_HEADERS ON)
endfunction()

cmake_language(DEFER CALL compile_faster)
