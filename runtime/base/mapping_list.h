// The files that are mapped now, for the handler of SIGBUS to find which one an address belongs to.
#pragma once

#include <cstddef>
#include <filesystem>

namespace trivet {

// What does not fit any more (1024 files at once, paths of 1 KiB) is left out.
void list_mapping(const std::byte* begin, std::size_t bytes, const std::filesystem::path& path);
void unlist_mapping(const std::byte* begin);

}  // namespace trivet
