# What is installed: bin/trivet and libexec/trivet/trivet-main, lib/libtrivet.so, the public headers and a CMake package. `cpack` makes an archive of
# it that runs wherever it is unpacked, because it brings the libraries from outside along.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The house up to infer as one shared library, for programs of users.
add_library(trivet_shared SHARED)
foreach(folder kernels_cpu vector_baseline vector_avx2 vector_avx512 base graph ops passes plan exec comm formats report
               data nn models train infer)
  if(TARGET trivet_${folder})
    get_target_property(type trivet_${folder} TYPE)
    if(NOT type STREQUAL "INTERFACE_LIBRARY")
      target_sources(trivet_shared PRIVATE $<TARGET_OBJECTS:trivet_${folder}>)
    endif()
  endif()
endforeach()
target_link_libraries(trivet_shared PRIVATE trivet_dnnl gloo OpenMP::OpenMP_CXX Threads::Threads fmt::fmt
  spdlog::spdlog OpenSSL::Crypto ZLIB::ZLIB yaml-cpp PUBLIC nlohmann_json::nlohmann_json)
target_include_directories(trivet_shared INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(trivet_shared INTERFACE cxx_std_20)
set_target_properties(trivet_shared PROPERTIES OUTPUT_NAME trivet EXPORT_NAME trivet LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})

# Found from where the file itself lies. As DT_RPATH, because that also serves the libraries that these load.
set_target_properties(trivet_main PROPERTIES INSTALL_RPATH "$ORIGIN/../../${CMAKE_INSTALL_LIBDIR}")
set_target_properties(trivet_shared PROPERTIES INSTALL_RPATH "$ORIGIN")
set_target_properties(trivet_main trivet_shared PROPERTIES LINK_OPTIONS "-Wl,--disable-new-dtags")

install(TARGETS trivet)
# Where bin/trivet looks: libexec/trivet beside its own folder.
install(TARGETS trivet_main DESTINATION libexec/trivet RUNTIME_DEPENDENCY_SET trivet_outside)
install(TARGETS trivet_shared EXPORT trivetTargets RUNTIME_DEPENDENCY_SET trivet_outside)
install(DIRECTORY include/trivet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/trivet)
install(EXPORT trivetTargets NAMESPACE trivet:: DESTINATION ${package})
configure_package_config_file(cmake/trivetConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/trivetConfig.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/trivetConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/trivetConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/trivetConfigVersion.cmake
  DESTINATION ${package})

# The archive: everything but what belongs to the C and C++ run time.
install(RUNTIME_DEPENDENCY_SET trivet_outside COMPONENT outside EXCLUDE_FROM_ALL
  PRE_EXCLUDE_REGEXES "^ld-linux" "^libc\\.so" "^libm\\.so" "^libstdc\\+\\+" "^libgcc_s" "^libpthread" "^libdl\\.so"
  DIRECTORIES /usr/lib/x86_64-linux-gnu /usr/lib)
set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_NAME trivet)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};trivet;ALL;/;${CMAKE_BINARY_DIR};trivet;outside;/")
include(CPack)
