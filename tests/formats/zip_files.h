// ZIP archives for tests.
#pragma once

#include <zlib.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "tests/formats/test_files.h"
#include "trivet/base/types.h"
#include "trivet/formats/npy.h"

namespace trivet::testing {

struct ZipMember {
  std::string name;
  std::string content;
  bool deflated = false;
  bool zip64 = false;  // sizes and place in the extra field
};

inline std::string little(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

inline std::string deflate_raw(const std::string& content) { return deflated(content, -MAX_WBITS); }

inline std::string zip(const std::vector<ZipMember>& members, bool zip64_end = false, const std::string& comment = {}) {
  std::string file, directory;
  for (const ZipMember& m : members) {
    const std::string data = m.deflated ? deflate_raw(m.content) : m.content;
    const auto crc = crc32_z(0, reinterpret_cast<const Bytef*>(m.content.data()), m.content.size());
    const std::string common =
        little(m.zip64 ? 45 : 20, 2) + little(0, 2) + little(m.deflated ? 8 : 0, 2) + little(0, 4) + little(crc, 4);
    const std::string extra = m.zip64 ? little(1, 2) + little(24, 2) + little(m.content.size(), 8) +
                                            little(data.size(), 8) + little(file.size(), 8)
                                      : std::string();
    const std::string sizes =
        m.zip64 ? little(0xffffffff, 4) + little(0xffffffff, 4) : little(data.size(), 4) + little(m.content.size(), 4);
    directory += "PK\x01\x02" + little(20, 2) + common + sizes + little(m.name.size(), 2) + little(extra.size(), 2) +
                 little(0, 2) + little(0, 2) + little(0, 2) + little(0, 4) +
                 little(m.zip64 ? 0xffffffff : file.size(), 4) + m.name + extra;
    // Local headers may have extra fields of their own.
    file += "PK\x03\x04" + common + sizes + little(m.name.size(), 2) + little(3, 2) + m.name + "abc" + data;
  }
  const std::size_t at = file.size();
  file += directory;
  if (zip64_end) {
    const std::size_t end64 = file.size();
    file += "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) + little(members.size(), 8) +
            little(members.size(), 8) + little(directory.size(), 8) + little(at, 8);
    file += "PK\x06\x07" + little(0, 4) + little(end64, 8) + little(1, 4);
  }
  const auto in32 = [&](std::size_t value) { return little(zip64_end ? 0xffffffff : value, 4); };
  const auto in16 = [&](std::size_t value) { return little(zip64_end ? 0xffff : value, 2); };
  return file + "PK\x05\x06" + little(0, 4) + in16(members.size()) + in16(members.size()) + in32(directory.size()) +
         in32(at) + little(comment.size(), 2) + comment;
}

template <class T>
std::string npy_file(DType dtype, const Shape& shape, const std::vector<T>& values) {
  return npy_header({dtype, shape}).append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

}  // namespace trivet::testing
