# Turns CUDA on where there is a compiler for it.
#
#   TRIVET_CUDA               AUTO: the plug-in is built where nvcc is found (default)
#                             ON: no nvcc is an error        OFF: nvcc is not looked for
#   CMAKE_CUDA_ARCHITECTURES  default 80-real;90a-real; a release adds 100-real;120
#
# Sets TRIVET_HAVE_CUDA and defines trivet_cuda_options(target).
set(TRIVET_CUDA AUTO CACHE STRING "Build the CUDA plug-in: AUTO, ON or OFF")
set_property(CACHE TRIVET_CUDA PROPERTY STRINGS AUTO ON OFF)
set(TRIVET_HAVE_CUDA OFF)

# Sanitizers and fuzzing are for the host's code; kernels are checked by the simulator.
if(NOT TRIVET_CUDA STREQUAL "OFF" AND NOT TRIVET_SANITIZE AND NOT TRIVET_FUZZ)
  # Before enable_language(CUDA), which takes nvcc's own default otherwise.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real CACHE STRING "GPU architectures")
  endif()
  # check_language() looks at PATH alone, and the toolkit is often not on it.
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(TRIVET_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(TRIVET_NVCC)
    if(TRIVET_NVCC)
      set(ENV{CUDACXX} ${TRIVET_NVCC})
    endif()
  endif()
  if(CMAKE_CXX_COMPILER_LAUNCHER AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
  endif()

  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    # CMake 3.25 does not know nvcc's flag for C++20; a later one sets this itself.
    if(CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA" AND NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    set(CMAKE_CUDA_STANDARD_REQUIRED ON)
    set(CMAKE_CUDA_EXTENSIONS OFF)
    set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
    find_package(CUDAToolkit 13.0)
    if(CUDAToolkit_FOUND AND TARGET CUDA::cudart_static AND TARGET CUDA::cublasLt)
      set(TRIVET_HAVE_CUDA ON)
      find_package(CUDNN 9.8)  # without, the plug-in has no convolutions
    endif()
  endif()
  if(TRIVET_CUDA STREQUAL "ON" AND NOT TRIVET_HAVE_CUDA)
    message(FATAL_ERROR "TRIVET_CUDA=ON, but there is no CUDA toolkit 13 with nvcc, cudart_static and cublasLt. Put nvcc "
                        "on PATH, set CUDACXX or CUDA_PATH, or configure with -DTRIVET_CUDA=AUTO.")
  endif()
endif()

# Without its header ranks do not speak through GPUs. Tests need no more than the header either.
if(NOT TRIVET_CUDA STREQUAL "OFF")
  find_package(NCCL 2.18)
endif()

# Warnings of nvcc, ptxas and the host's compiler are errors, and so are spilled registers and arrays that lie in local
# memory. Compressed for size, the plug-in is a sixth as large. -Wpedantic is left out for nvcc: its own line directives
# break it.
function(trivet_cuda_options target)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -lineinfo --compress-mode=size>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas -warn-spills,-warn-lmem-usage,-Werror>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion,-Wnon-virtual-dtor,-Werror>"
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Werror>")
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
    CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
endfunction()
