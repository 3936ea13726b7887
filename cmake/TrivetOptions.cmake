set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()

option(TRIVET_TESTS "Build the tests" ON)
option(TRIVET_BENCH "Build the benchmarks" ON)
option(TRIVET_FUZZ "Build the fuzz targets, with clang" OFF)
set(TRIVET_SANITIZE "" CACHE STRING "Sanitizers for everything, for example address,undefined or thread")

# One place for what every target is compiled with.
add_library(trivet_options INTERFACE)
target_include_directories(trivet_options INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_compile_options(trivet_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Werror)
if(TRIVET_SANITIZE)
  # gcc's -Wmaybe-uninitialized and -Wstringop warnings are unreliable in instrumented code.
  target_compile_options(trivet_options INTERFACE -fsanitize=${TRIVET_SANITIZE} -fno-omit-frame-pointer -g
    -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds)
  target_link_options(trivet_options INTERFACE -fsanitize=${TRIVET_SANITIZE})
endif()

find_program(TRIVET_CCACHE ccache)
if(TRIVET_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # What ccache needs to remember compilations with a precompiled header, in any build folder.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    CCACHE_BASEDIR=${PROJECT_BINARY_DIR} ${TRIVET_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(trivet_options INTERFACE -fpch-preprocess)
  endif()
endif()
