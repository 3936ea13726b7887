// TensorBoard's event files: records framed as TFRecord (https://www.tensorflow.org/tutorials/load_data/tfrecord:
// length u64, its masked CRC-32C, data, their masked CRC-32C, little-endian), each one an `Event` message of
// tensorflow/core/util/event.proto with a `Summary` of tensorflow/core/framework/summary.proto.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trivet {

struct Scalar {
  std::string tag;  // "train/loss"
  double value = 0;
};

// What a record of metrics.jsonl (docs/runs.md) says, and the optimizer step that it belongs to. Values that are no
// finite numbers are left out.
//   step    train/batch_loss, lr, grad_norm
//   epoch   train/loss, train/accuracy, validation/..., images_per_second
//   final   test/...: its train and validation belong to another step, that of the best checkpoint
struct StepScalars {
  std::int64_t step = 0;
  std::vector<Scalar> scalars;
};
StepScalars tensorboard_scalars(const nlohmann::json& record);

// Appends to an event file of its own, which is made in `directory` at the first scalar. A resumed run makes another
// one; what older files have from its first step on counts no more, because the new file says that a session started
// there. Every record is in the file when the call returns; a reader may follow it.
class TensorBoardWriter {
 public:
  using Clock = std::function<double()>;  // seconds since 1970

  explicit TensorBoardWriter(std::filesystem::path directory, Clock clock = {});
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;
  ~TensorBoardWriter();

  // Error(io) if the file cannot be made or written.
  void add(std::int64_t step, std::span<const Scalar> scalars);
  void add(const nlohmann::json& record);  // what tensorboard_scalars() makes of it

 private:
  void open(std::int64_t step);
  void write(const std::string& event);

  std::filesystem::path directory_;
  Clock clock_;
  std::filesystem::path path_;
  int fd_ = -1;
};

// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
std::uint32_t crc32c(std::string_view data);

}  // namespace trivet
