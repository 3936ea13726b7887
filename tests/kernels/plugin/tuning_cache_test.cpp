#include "kernels/cuda/plugin/tuning_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace trivet::kernels::cuda {
namespace {

namespace fs = std::filesystem;

class TuningCacheFile : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  const fs::path folder_ =
      fs::temp_directory_path() / ("trivet-tuning-" + std::to_string(::getpid()) + "-" +
                                   ::testing::UnitTest::GetInstance()->current_test_info()->name());
  const std::string file_ = (folder_ / "cache" / "choices.txt").string();
};

TEST_F(TuningCacheFile, GivesBackWhatWasRememberedAlsoByAnother) {
  TuningCache one(file_), other(file_);
  EXPECT_FALSE(one.find("1,2").has_value());
  one.remember("1,2", "a b c");
  other.remember("3", "17:2=3");
  EXPECT_EQ(one.find("1,2"), "a b c");
  TuningCache again(file_);
  EXPECT_EQ(again.find("1,2"), "a b c");
  EXPECT_EQ(again.find("3"), "17:2=3");
}

TEST_F(TuningCacheFile, LeavesDamagedLinesOut) {
  fs::create_directories(folder_ / "cache");
  std::ofstream(file_) << "\n key\nkey\nkey \ngood 1 2\n" << std::string(10'000, 'x') << " 1\n";
  TuningCache cache(file_);
  EXPECT_EQ(cache.find("good"), "1 2");
  EXPECT_FALSE(cache.find("key").has_value());
  EXPECT_FALSE(cache.find("").has_value());
  EXPECT_FALSE(cache.find(std::string(10'000, 'x')).has_value());
}

}  // namespace
}  // namespace trivet::kernels::cuda
