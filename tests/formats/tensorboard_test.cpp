#include "trivet/formats/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/formats/test_files.h"

namespace trivet {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::FieldsAre;
using testing::slurp;
using testing::TempDir;

// A second implementation of CRC-32C, bit by bit from its polynomial x^32 + 0x1EDC6F41, reflected.
std::uint32_t slow_crc32c(std::string_view data) {
  std::uint32_t crc = ~0u;
  for (const char c : data) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
  }
  return ~crc;
}

// Reads fields of a protocol buffers message, as the encoding's document describes them.
class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : rest_(bytes) {}
  bool more() const { return !rest_.empty(); }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    throw std::runtime_error("a varint of more than 10 bytes");
  }
  std::uint64_t fixed(std::size_t bytes) {
    std::uint64_t value = 0;
    const std::string_view text = take(bytes);
    for (std::size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(text[i]);
    return value;
  }
  std::string_view take(std::size_t bytes) {
    if (bytes > rest_.size()) throw std::runtime_error("the message ends too early");
    const std::string_view result = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return result;
  }

 private:
  std::string_view rest_;
};

struct Event {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string version;
  bool starts_session = false;
  std::vector<std::pair<std::string, float>> scalars;
};

std::pair<std::string, float> decode_value(std::string_view bytes) {
  std::pair<std::string, float> value;
  for (Decoder d(bytes); d.more();) {
    const std::uint64_t key = d.varint();
    if (key == (1 << 3 | 2)) {
      value.first = d.take(d.varint());
    } else if (key == (2 << 3 | 5)) {
      value.second = std::bit_cast<float>(static_cast<std::uint32_t>(d.fixed(4)));
    } else {
      throw std::runtime_error("an unknown field of Summary.Value");
    }
  }
  return value;
}

Event decode_event(std::string_view bytes) {
  Event event;
  for (Decoder d(bytes); d.more();) {
    const std::uint64_t key = d.varint();
    if (key == (1 << 3 | 1)) {
      event.wall_time = std::bit_cast<double>(d.fixed(8));
    } else if (key == (2 << 3 | 0)) {
      event.step = static_cast<std::int64_t>(d.varint());
    } else if (key == (3 << 3 | 2)) {
      event.version = d.take(d.varint());
    } else if (key == (5 << 3 | 2)) {
      for (Decoder summary(d.take(d.varint())); summary.more();) {
        EXPECT_EQ(summary.varint(), 1u << 3 | 2u);
        event.scalars.push_back(decode_value(summary.take(summary.varint())));
      }
    } else if (key == (7 << 3 | 2)) {
      event.starts_session = d.take(d.varint()) == "\x08\x01";
    } else {
      throw std::runtime_error("an unknown field of Event");
    }
  }
  return event;
}

std::uint32_t unmask(std::uint64_t masked) {
  const std::uint32_t rotated = static_cast<std::uint32_t>(masked) - 0xa282ead8u;
  return rotated << 15 | rotated >> 17;
}

std::vector<Event> decode_file(const std::filesystem::path& path) {
  const std::string content = slurp(path);
  std::vector<Event> events;
  for (Decoder d(content); d.more();) {
    const std::string_view length = d.take(8);
    EXPECT_EQ(unmask(d.fixed(4)), slow_crc32c(length));
    const std::string_view data = d.take(Decoder(length).fixed(8));
    EXPECT_EQ(unmask(d.fixed(4)), slow_crc32c(data));
    events.push_back(decode_event(data));
  }
  return events;
}

std::vector<std::filesystem::path> event_files(const TempDir& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().filename().string().find("tfevents") != std::string::npos) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

json step_record(int step, double loss) {
  return {{"kind", "step"}, {"step", step}, {"epoch", 1}, {"loss", loss}, {"lr", 0.125}};
}

TEST(Crc32c, HasTheValuesOfRfc3720) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string ascending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  EXPECT_EQ(crc32c(ascending), 0x46DD794Eu);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
}

TEST(TensorBoardWriter, WritesEventsThatADecoderOfTheFormatReadsBack) {
  const TempDir folder;
  double now = 1753200000.25;
  TensorBoardWriter writer(folder.path(), [&] { return now; });
  EXPECT_TRUE(folder.empty());  // nothing to say yet
  writer.add(7, std::vector<Scalar>{{"train/loss", 0.5}, {"lr", 1e-3}});
  now += 2;
  writer.add(std::int64_t{1} << 40, std::vector<Scalar>{{"train/loss", -3}});
  const auto files = event_files(folder);
  ASSERT_EQ(files.size(), 1u);
  EXPECT_EQ(files[0].filename(), "events.out.tfevents.1753200000.000");
  const std::vector<Event> events = decode_file(files[0]);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[0].wall_time, 1753200000.25);
  EXPECT_TRUE(events[1].starts_session);
  EXPECT_EQ(events[1].step, 7);
  EXPECT_EQ(events[2].step, 7);
  EXPECT_THAT(events[2].scalars, ElementsAre(FieldsAre("train/loss", 0.5F), FieldsAre("lr", 1e-3F)));
  EXPECT_EQ(events[3].wall_time, 1753200002.25);
  EXPECT_EQ(events[3].step, std::int64_t{1} << 40);
  EXPECT_THAT(events[3].scalars, ElementsAre(FieldsAre("train/loss", -3.0F)));
}

TEST(TensorBoardWriter, GoesOnInAFileOfItsOwnThatComesLaterByName) {
  const TempDir folder;
  for (const int first : {1, 3}) {
    TensorBoardWriter writer(folder.path(), [] { return 1753200000.0; });
    writer.add(step_record(first, 1.5));
    writer.add(step_record(first + 3, 1.25));
  }
  const auto files = event_files(folder);
  ASSERT_EQ(files.size(), 2u);
  const std::vector<Event> resumed = decode_file(files[1]);
  ASSERT_EQ(resumed.size(), 4u);
  EXPECT_TRUE(resumed[1].starts_session);  // from here on the first file's steps do not count
  EXPECT_EQ(resumed[1].step, 3);
  EXPECT_EQ(resumed[3].step, 6);
}

TEST(TensorBoardWriter, NamesTheFileThatCannotBeWritten) {
  const TempDir folder;
  TensorBoardWriter writer(folder / "gone");
  expect_error(ErrorCode::io, {"gone/events.out.tfevents.", "No such file"}, [&] { writer.add(step_record(1, 1)); });
}

TEST(TensorBoardScalars, NameWhatARecordOfMetricsSays) {
  json step = step_record(40, 0.75);
  step["grad_norm"] = 2.5;
  const StepScalars of_step = tensorboard_scalars(step);
  EXPECT_EQ(of_step.step, 40);
  EXPECT_THAT(of_step.scalars,
              ElementsAre(FieldsAre("train/batch_loss", 0.75), FieldsAre("lr", 0.125), FieldsAre("grad_norm", 2.5)));
  const StepScalars of_epoch =
      tensorboard_scalars({{"kind", "epoch"},
                           {"epoch", 1},
                           {"step", 80},
                           {"seconds", 0.5},
                           {"train", {{"loss", 0.5}, {"accuracy", 0.25}, {"samples", 1000}}},
                           {"validation", {{"loss", 0.625}, {"accuracy", 0.125}, {"samples", 10}}}});
  EXPECT_EQ(of_epoch.step, 80);
  EXPECT_THAT(of_epoch.scalars, ElementsAre(FieldsAre("train/accuracy", 0.25), FieldsAre("train/loss", 0.5),
                                            FieldsAre("validation/accuracy", 0.125),
                                            FieldsAre("validation/loss", 0.625), FieldsAre("images_per_second", 2000)));
  const StepScalars of_final = tensorboard_scalars({{"kind", "final"},
                                                    {"steps", 80},
                                                    {"seconds", 3},
                                                    {"validation", {{"loss", 0.5}}},
                                                    {"test", {{"loss", 0.75}, {"samples", 9}}}});
  EXPECT_EQ(of_final.step, 80);
  EXPECT_THAT(of_final.scalars, ElementsAre(FieldsAre("test/loss", 0.75)));
}

TEST(TensorBoardScalars, LeaveOutWhatIsNoFiniteNumber) {
  const double too_large = 1e300;  // for the float that an event file has
  for (const json& loss : {json(), json("1"), json::array({1}), json(std::nan("")), json(too_large)}) {
    json record = step_record(1, 0);
    record["loss"] = loss;
    EXPECT_THAT(tensorboard_scalars(record).scalars, ElementsAre(FieldsAre("lr", 0.125))) << loss;
  }
  for (const json& record : {json(), json(3), json::object(), json{{"kind", 5}}, json{{"kind", "epoch"}},
                             json{{"kind", "epoch"}, {"train", 3}, {"step", "x"}, {"seconds", 0}}}) {
    EXPECT_TRUE(tensorboard_scalars(record).scalars.empty()) << record;
  }
}

// The reader that these files are for. TRIVET_TENSORBOARD_PYTHON names a Python that has the package.
TEST(TensorBoardWriter, IsReadByTensorBoardWhichDropsStepsThatWereCut) {
  const char* named = std::getenv("TRIVET_TENSORBOARD_PYTHON");
  const std::string python = named != nullptr ? named : "python3";
  if (std::system(("'" + python + "' -c 'import tensorboard' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << python << " has no package tensorboard";
  }
  const TempDir folder;
  double now = 1753200000;
  for (const int first : {1, 3}) {  // the second attempt goes on from a checkpoint after step 2
    TensorBoardWriter writer(folder.path(), [&] { return now; });
    for (int step = first; step < first + 4; ++step, ++now) writer.add(step_record(step, first + step * 0.25));
  }
  const auto script = folder.write("read.py", R"(
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
json.dump({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]},
          open(sys.argv[2], "w"))
)");
  const auto output = folder / "read.json";
  ASSERT_EQ(std::system(fmt::format("'{}' '{}' '{}' '{}' 2>'{}'", python, script.string(), folder.path().string(),
                                    output.string(), (folder / "errors").string())
                            .c_str()),
            0)
      << slurp(folder / "errors");
  const json read = json::parse(slurp(output));
  EXPECT_EQ(read.at("train/batch_loss"), json::parse("[[1,1.25],[2,1.5],[3,3.75],[4,4.0],[5,4.25],[6,4.5]]"));
  EXPECT_EQ(read.at("lr").size(), 6u);
}

}  // namespace
}  // namespace trivet
