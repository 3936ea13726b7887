// Which algorithms were fastest, kept in the user's cache folder: one file for each kind of device and version of the
// library, a line for each product. A file that is damaged or cannot be written costs the time to measure again.
#pragma once

#include <cublasLt.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace trivet::kernels::cuda {

class TuningCache {
 public:
  // That of the calling thread's device.
  static TuningCache& of_this_device();
  explicit TuningCache(std::string path);

  std::optional<cublasLtMatmulAlgo_t> find(const std::string& key);
  // Writes the file again, with what other processes have added to it meanwhile; whole or not at all.
  void remember(const std::string& key, const cublasLtMatmulAlgo_t& algorithm);

 private:
  void read();
  void write() const;

  std::string path_;
  std::mutex mutex_;
  std::map<std::string, cublasLtMatmulAlgo_t> known_;
};

}  // namespace trivet::kernels::cuda
