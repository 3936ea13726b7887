#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/exec/ceilings_cache.h"
#include "tests/store/temporary_folder.h"
#include "trivet/base/file.h"

namespace trivet {
namespace {

using nlohmann::json;

// Sets an environment variable, or unsets it for null, until the end of the scope.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { set(old_ ? old_->c_str() : nullptr); }

 private:
  void set(const char* value) const {
    if (value) {
      ::setenv(name_, value, 1);
    } else {
      ::unsetenv(name_);
    }
  }

  const char* name_;
  std::optional<std::string> old_;
};

std::vector<fs::path> files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  return files;
}

void expect_measured(const Ceilings& c) {
  for (const double figure : {c.matrix_flops, c.bf16_matrix_flops, c.int8_matrix_flops, c.vector_flops, c.memory_bytes,
                              c.triad_bytes, c.cache_bytes, c.launch_seconds}) {
    EXPECT_TRUE(std::isfinite(figure) && figure > 0) << figure;
  }
  EXPECT_GT(c.cache_size, 0u);
  EXPECT_LT(c.cache_size, std::size_t{1} << 40);
}

void expect_equal(const Ceilings& a, const Ceilings& b) {
  EXPECT_EQ(a.matrix_flops, b.matrix_flops);
  EXPECT_EQ(a.bf16_matrix_flops, b.bf16_matrix_flops);
  EXPECT_EQ(a.int8_matrix_flops, b.int8_matrix_flops);
  EXPECT_EQ(a.vector_flops, b.vector_flops);
  EXPECT_EQ(a.memory_bytes, b.memory_bytes);
  EXPECT_EQ(a.triad_bytes, b.triad_bytes);
  EXPECT_EQ(a.cache_bytes, b.cache_bytes);
  EXPECT_EQ(a.launch_seconds, b.launch_seconds);
  EXPECT_EQ(a.cache_size, b.cache_size);
}

// Figures that no machine has, so that what was read differs from what was measured.
const json kInvented = {{"matrix_flops", 1.0}, {"bf16_matrix_flops", 2.0}, {"int8_matrix_flops", 3.0},
                        {"vector_flops", 4.0}, {"memory_bytes", 5.0},      {"triad_bytes", 6.0},
                        {"cache_bytes", 7.0},  {"launch_seconds", 8.0},    {"cache_size", 9}};

class CachedCeilings : public ::testing::Test {
 protected:
  Ceilings get(const std::string& device = "a device") const { return cached_ceilings(device, 1); }

  fs::path only_file() const {
    const std::vector<fs::path> files = files_below(folder_.path());
    EXPECT_EQ(files.size(), 1u);
    return files.at(0);
  }

  TemporaryFolder folder_;
  Environment cache_{"XDG_CACHE_HOME", folder_.path().c_str()};
};

TEST_F(CachedCeilings, AreWrittenToTheCacheFolderAndReadBackEqual) {
  const Ceilings measured = get();
  expect_measured(measured);
  EXPECT_EQ(only_file().parent_path(), folder_.path() / "trivet");
  expect_equal(get(), measured);
}

TEST_F(CachedCeilings, AreReadAndNotMeasuredWhenTheFileIsThere) {
  get();
  write_file_atomic(only_file(), kInvented.dump());
  expect_equal(get(), {1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_F(CachedCeilings, AreKeptApartByDevice) {
  get("a device, 1 threads");
  write_file_atomic(only_file(), kInvented.dump());
  EXPECT_NE(get("a device, 2 threads").matrix_flops, 1.0);
  EXPECT_EQ(files_below(folder_.path()).size(), 2u);
  EXPECT_EQ(get("a device, 1 threads").matrix_flops, 1.0);
}

TEST_F(CachedCeilings, AreMeasuredAnewWhenTheFileIsDamaged) {
  get();
  const fs::path path = only_file();
  const std::string whole = read_file(path, 1 << 16);
  for (const std::string& damaged : {std::string(), std::string("not json"), whole.substr(0, whole.size() / 2),
                                     std::string("[1, 2]"), std::string(1 << 17, ' '), whole + "}"}) {
    write_file_atomic(path, damaged);
    expect_measured(get());
    EXPECT_NO_THROW(json::parse(read_file(path, 1 << 16)).at("matrix_flops").get<double>()) << "mended";
  }
}

TEST_F(CachedCeilings, AreMeasuredAnewWhenAFigureIsMissingOrImpossible) {
  get();
  const fs::path path = only_file();
  for (const auto& [name, value] : kInvented.items()) {
    for (const json& impossible : {json(), json(-1)}) {
      SCOPED_TRACE(name + " " + impossible.dump());
      json changed = kInvented;
      if (impossible.is_null()) {
        changed.erase(name);
      } else {
        changed[name] = impossible;
      }
      write_file_atomic(path, changed.dump());
      const Ceilings c = get();
      expect_measured(c);
      EXPECT_NE(c.matrix_flops, 1.0);
    }
  }
}

TEST_F(CachedCeilings, NeedNoCacheFolder) {
  const fs::path file = folder_.path() / "file";
  std::ofstream(file) << "old";
  const Environment cache("XDG_CACHE_HOME", (file / "below").c_str());
  expect_measured(get());
  EXPECT_EQ(read_file(file, 100), "old");
  EXPECT_EQ(files_below(folder_.path()).size(), 1u);
}

TEST_F(CachedCeilings, AreBelowTheHomeFolderIfNoCacheFolderIsNamed) {
  const Environment cache("XDG_CACHE_HOME", nullptr);
  const Environment home("HOME", folder_.path().c_str());
  get();
  EXPECT_EQ(only_file().parent_path(), folder_.path() / ".cache" / "trivet");
}

}  // namespace
}  // namespace trivet
