// A folder with files for jobs to name, and small jobs that use them.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "trivet/base/error.h"
#include "trivet/job/spec.h"

namespace trivet {

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  EXPECT_TRUE(stream.good()) << path;
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

class JobTest : public ::testing::Test {
 protected:
  JobTest() {
    static std::atomic<int> counter{0};
    folder_ = std::filesystem::temp_directory_path() / fmt::format("trivet-job-test-{}-{}", ::getpid(), counter++);
    std::filesystem::create_directories(folder_);
    for (const char* name : {"images.idx", "labels.idx", "test-images.idx", "test-labels.idx"}) {
      write_text(folder_ / name, "x");
    }
  }
  ~JobTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  static std::string train_text(const std::string& more = "") {
    return "kind: train\nname: t\ndata: {train: {images: images.idx, labels: labels.idx}}\n" + more;
  }
  static std::string infer_text(const std::string& more = "") {
    return "kind: infer\nname: i\ndata: {images: images.idx}\n" + more;
  }

  JobSpec parse(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    return parse_job(text, "job.yaml", overrides, folder_);
  }

  // The error of a job that must be refused.
  Error error_of(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    try {
      parse(text, overrides);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::job) << error.what();
      EXPECT_TRUE(error.place().has_value()) << error.what();
      return error;
    }
    ADD_FAILURE() << "no error for:\n" << text;
    return Error(ErrorCode::internal, SourcePlace{}, "none");
  }

  std::filesystem::path folder_;
};

}  // namespace trivet
