#include "trivet/base/mapping_loss.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "tests/store/forked.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/file.h"

namespace trivet {
namespace {

constexpr int kExplained = 21;
constexpr int kOtherFile = 22;

class MappingLossTest : public ::testing::Test {
 protected:
  static std::size_t page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

  fs::path file_of_pages(const std::string& name, std::size_t pages) const {
    const fs::path path = folder_.path() / name;
    std::ofstream(path, std::ios::binary) << std::string(pages * page(), 'x');
    return path;
  }

  static int read_at(const volatile std::byte* bytes, std::size_t at) { return std::to_integer<int>(bytes[at]); }

  TemporaryFolder folder_;
};

std::string expected_path;
std::size_t expected_bytes = 0;

void explain(const char* path, std::size_t bytes) {
  _exit(path == expected_path && bytes == expected_bytes ? kExplained : kOtherFile);
}

TEST_F(MappingLossTest, NamesTheFileThatWasCutShort) {
  const int code = wait_for(start_child([&] {
    const fs::path lost = file_of_pages("lost", 3);
    const MappedFile before(file_of_pages("before", 2)), file(lost), after(file_of_pages("after", 2));
    expected_path = lost.string();
    expected_bytes = 3 * page();
    on_mapping_loss(explain);
    fs::resize_file(lost, page());
    if (read_at(file.bytes().data(), 0) != 'x' || read_at(before.bytes().data(), page()) != 'x') return 1;
    return read_at(file.bytes().data(), 2 * page()) == 'x' ? 2 : 3;
  }));
  EXPECT_EQ(code, kExplained);
}

TEST_F(MappingLossTest, OfAFileThatIsNotOursOrNoLongerIsWhatItAlwaysWas) {
  const int code = wait_for(start_child([&] {
    on_mapping_loss(explain);
    const fs::path path = file_of_pages("other", 2);
    { const MappedFile gone(path); }
    const int fd = ::open(path.c_str(), O_RDONLY);
    const void* p = ::mmap(nullptr, 2 * page(), PROT_READ, MAP_PRIVATE, fd, 0);
    fs::resize_file(path, 0);
    return read_at(static_cast<const std::byte*>(p), page());
  }));
  EXPECT_EQ(code, 128 + SIGBUS);
}

}  // namespace
}  // namespace trivet
