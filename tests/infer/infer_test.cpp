#include "trivet/infer/infer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/formats/test_files.h"
#include "trivet/base/error.h"
#include "trivet/data/image_data.h"

namespace trivet {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::UnorderedElementsAre;

constexpr std::int64_t kSide = 6;

class Nowhere final : public LogSink {
 public:
  void line(const std::string&) override {}
  void progress(const Progress&) override {}
};

std::unique_ptr<DataSource> images(std::int64_t count, std::int64_t side = kSide) {
  ImageData data;
  data.count = count;
  data.height = data.width = side;
  data.channels = 1;
  data.pixels = DataBytes(std::vector<std::uint8_t>(static_cast<std::size_t>(count * side * side)));
  return image_source(std::move(data), {"some.images"});
}

// A run with the checkpoints of steps 2, 4 and 6, of which `best` is the best.
class Inference : public ::testing::Test {
 protected:
  void SetUp() override {
    states_.add(predict_graph(task(), 1));
    device_ = open_device("cpu", {1, {}});
    arena_ = std::make_unique<Arena>(device_, states_, std::vector<PlanPtr>{});
    arena_->initialize(3);
    folder_.prepare();
  }

  static ModelTask task() {
    ModelConfig model;
    model.name = "mlp";
    model.hidden = {5};
    model.classes = 10;
    return label_task(model, {kSide, kSide, 1}, 3);
  }

  static TrainState trained() {
    TrainState state;
    state.seed = 3;
    state.task = task();
    state.preparation = images(2)->fit(std::vector<std::int64_t>{0, 1}, {});
    state.preparation.values["classes"] = 10;
    return state;
  }

  void save(std::int64_t best) const {
    for (const std::int64_t step : {2, 4, 6}) {
      TrainState state = trained();
      state.step = step;
      state.best_step = best;
      folder_.save(*arena_, state);
    }
  }

  void damage(std::int64_t step) const {
    const fs::path file = folder_.path(step) / "model.safetensors";
    fs::resize_file(file, fs::file_size(file) - 1);
  }

  InferConfig config(const fs::path& run, const std::string& checkpoint = "best") const {
    InferConfig config;
    config.run = run;
    config.checkpoint = checkpoint;
    config.batch = 8;
    return config;
  }
  std::int64_t chosen(const std::string& checkpoint) const {
    const ChosenCheckpoint found = choose_checkpoint(config(run_.path(), checkpoint));
    EXPECT_EQ(found.path, fs::canonical(folder_.path(found.state.step)));
    return found.state.step;
  }
  void expect_refused(const InferConfig& config, std::initializer_list<std::string_view> parts) const {
    testing::expect_error(ErrorCode::checkpoint, parts, [&] { choose_checkpoint(config); });
  }

  testing::TempDir run_;
  CheckpointFolder folder_{run_ / "checkpoints"};
  StateLayout states_{64};
  std::shared_ptr<const Device> device_;
  std::unique_ptr<Arena> arena_;
};

TEST_F(Inference, TakesTheBestCheckpointOrTheLast) {
  save(4);
  EXPECT_EQ(chosen("best"), 4);
  EXPECT_EQ(chosen("last"), 6);
}

TEST_F(Inference, TakesTheLastCheckpointOfARunThatKeepsNoBest) {
  save(0);
  EXPECT_EQ(chosen("best"), 6);
}

TEST_F(Inference, TakesTheCheckpointThatIsNamed) {
  save(4);
  EXPECT_EQ(choose_checkpoint(config(folder_.path(2))).state.step, 2);
  EXPECT_EQ(choose_checkpoint(config(folder_.path(2).string() + "/")).state.step, 2);
}

TEST_F(Inference, NeverTakesAnotherInPlaceOfADamagedOne) {
  save(4);
  damage(2);  // neither the best nor the last
  EXPECT_EQ(chosen("best"), 4);
  damage(4);
  expect_refused(config(run_.path(), "best"), {"step-000000004", "truncated"});
  expect_refused(config(folder_.path(4)), {"step-000000004", "truncated"});
  EXPECT_EQ(chosen("last"), 6);
  damage(6);
  expect_refused(config(run_.path(), "last"), {"step-000000006", "truncated"});
}

TEST_F(Inference, CannotTellTheBestWhenTheNewestIsDamaged) {
  for (const std::int64_t best : {0, 2, 6}) {
    save(best);
    damage(6);
    expect_refused(config(run_.path(), "best"), {"step-000000006", "truncated"});
  }
}

TEST_F(Inference, DoesNotTakeADamagedCheckpointForItsSuccessor) {
  save(6);
  folder_.set_aside(4);
  save(6);  // as a resumed run does
  expect_refused(config(folder_.path(4).string() + ".damaged"), {"step-000000004.damaged"});
}

TEST_F(Inference, NamesARunWithoutCheckpoints) {
  expect_refused(config(run_.path()), {run_.path().string(), "no checkpoint"});
  expect_refused(config(run_ / "elsewhere"), {"elsewhere", "no such run or checkpoint"});
}

TEST_F(Inference, PlansOnePassForEachSizeOfTile) {
  const auto plans = [&](std::int64_t count) {
    const InferData data = InferData::of(config(run_.path()), trained(), images(count));
    return plan_inference(config(run_.path()), trained(), data, *device_);
  };
  EXPECT_THAT(plans(20).predict.plans, UnorderedElementsAre(Key(8), Key(4)));
  EXPECT_THAT(plans(16).predict.plans, UnorderedElementsAre(Key(8)));
  EXPECT_THAT(plans(3).predict.plans, UnorderedElementsAre(Key(3)));
  const MemoryReport memory = plans(20).memory;
  EXPECT_EQ(memory.arena_total, Arena::planned_bytes(plans(20).states, plans(20).predict.all()));
  EXPECT_EQ(memory.arena[static_cast<std::size_t>(MemoryClass::gradients)], 0u);
  EXPECT_EQ(memory.arena[static_cast<std::size_t>(MemoryClass::optimizer)], 0u);
}

TEST_F(Inference, RefusesImagesOfAnotherShapeAndNone) {
  testing::expect_error(ErrorCode::data, {"[7,7,1]", "[6,6,1]"},
                        [&] { InferData::of(config(run_.path()), trained(), images(4, 7)); });
  testing::expect_error(ErrorCode::data, {"no samples"},
                        [&] { InferData::of(config(run_.path()), trained(), images(0)); });
}

TEST_F(Inference, StoppedBeforeTheEndWritesNothing) {
  save(6);
  std::string pixels(16 * kSide * kSide, '\5');
  InferConfig job = config(run_.path());
  job.data.images = run_.write("images", idx_header({16, kSide, kSide}) + pixels);
  job.output = run_ / "out.csv";
  Nowhere sink;
  RunLog log(run_.path(), sink);
  EXPECT_TRUE(run_inference(job, device_, std::atomic<bool>(true), log).interrupted);
  for (const auto& entry : fs::directory_iterator(run_.path())) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(::testing::StartsWith("out.csv")));
  }
  const InferResult result = run_inference(job, device_, std::atomic<bool>(false), log);
  EXPECT_FALSE(result.interrupted);
  EXPECT_EQ(result.samples, 16);
  EXPECT_FALSE(result.metrics.has_value());
  EXPECT_TRUE(fs::exists(job.output));
}

}  // namespace
}  // namespace trivet
