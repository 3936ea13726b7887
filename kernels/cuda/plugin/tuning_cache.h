// Which algorithms were fastest, kept in the user's cache folder: one file for each kind of device and version of the
// library, a line for each product or convolution. A file that is damaged or cannot be written costs the time to
// measure again.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace trivet::kernels::cuda {

class TuningCache {
 public:
  // That of the calling thread's device for a library's version, "cublaslt-130100".
  static TuningCache& of_this_device(const std::string& library);
  explicit TuningCache(std::string path);

  // The text of an algorithm, which may be damaged.
  std::optional<std::string> find(const std::string& key);
  // Writes the file again, with what other processes have added to it meanwhile; whole or not at all.
  void remember(const std::string& key, const std::string& algorithm);

 private:
  void read();
  void write() const;

  std::string path_;
  std::mutex mutex_;
  std::map<std::string, std::string> known_;
};

}  // namespace trivet::kernels::cuda
