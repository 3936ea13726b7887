#include "trivet/train/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "trivet/base/error.h"
#include "trivet/base/file.h"
#include "trivet/exec/float_cast.h"
#include "trivet/formats/safetensors.h"

namespace trivet {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Checkpoints : public ::testing::Test {
 protected:
  Checkpoints()
      : directory_(fs::temp_directory_path() / fmt::format("trivet-checkpoint-{}", ::getpid())), folder_(directory_) {
    fs::remove_all(directory_);
    folder_.prepare();
    Graph g;
    g.parameter("w", {DType::f32, {3, 5}}, {Init::Kind::normal, 1.0});
    g.state("running", {DType::f32, {5}}, MemoryClass::parameters, {Init::Kind::constant, 2.0});
    g.state("m/w", {DType::f32, {3, 5}}, MemoryClass::optimizer, {Init::Kind::uniform, 1.0});
    g.state("grad/w", {DType::f32, {3, 5}}, MemoryClass::gradients);
    StateLayout states(64);
    states.add(g);
    arena_ = std::make_unique<Arena>(open_device("cpu", {1, {}}), states, std::vector<std::shared_ptr<const Plan>>{});
    arena_->initialize(11);
  }
  ~Checkpoints() override { fs::remove_all(directory_); }

  TrainState state(std::int64_t step) const {
    TrainState s;
    s.step = step;
    s.epoch = 2;
    s.batch = 17;
    s.sums = {0.1 + 0.2, 3, 4, 5};
    s.seed = 9;
    s.graph_hash = "abc";
    s.best = 0.87654321987654321;
    s.best_step = 1;
    s.to_beat = 1.0 / 7.0;
    s.stale = 3;
    s.task = label_task({}, {4, 4, 1}, 9);
    s.task.target.kind = TargetKind::number;
    s.task.target.target_names = {"price"};
    s.task.target.mean = {1.0 / 3.0};
    s.task.target.stddev = {2.0 / 7.0};
    s.task.input.outputs = 1;
    s.task.input.category_sizes = {{3, 4}};
    s.preparation = {"table", {{"mean", 1.0 / 3.0}, {"names", {"a", "b"}}}};
    return s;
  }

  std::string reason(std::int64_t step) const {
    try {
      folder_.load_state(step);
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  static void truncate(const fs::path& path) { fs::resize_file(path, fs::file_size(path) / 2); }
  static void flip_byte(const fs::path& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(fs::file_size(path) / 2));
    const char byte = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(fs::file_size(path) / 2));
    file.put(byte);
  }

  fs::path directory_;
  CheckpointFolder folder_;
  std::unique_ptr<Arena> arena_;
};

TEST_F(Checkpoints, ComeBackToTheLastBit) {
  folder_.save(*arena_, state(5));
  const TrainState back = folder_.load_state(5);
  EXPECT_EQ(back.step, 5);
  EXPECT_EQ(back.epoch, 2);
  EXPECT_EQ(back.batch, 17);
  EXPECT_EQ(back.sums.loss, 0.1 + 0.2);
  EXPECT_EQ(*back.best, 0.87654321987654321);
  EXPECT_EQ(back.to_beat, 1.0 / 7.0);
  EXPECT_EQ(back.stale, 3);
  EXPECT_EQ(back.preparation.kind, "table");
  EXPECT_EQ(back.preparation.values, state(5).preparation.values);
  EXPECT_EQ(back.task.input.fields, state(5).task.input.fields);
  EXPECT_EQ(back.task.input.category_sizes, state(5).task.input.category_sizes);
  EXPECT_EQ(back.task.input.outputs, 1);
  EXPECT_EQ(back.task.goal(), Goal::number);
  EXPECT_EQ(back.task.target.target_names, std::vector<std::string>{"price"});
  EXPECT_EQ(back.task.target.mean, std::vector<double>{1.0 / 3.0});
  const Tensor w = arena_->get_state("w"), m = arena_->get_state("m/w");
  arena_->initialize(99);
  EXPECT_NE(arena_->get_state("w").data, w.data);
  folder_.load_tensors(5, *arena_, true);
  EXPECT_EQ(arena_->get_state("w").data, w.data);
  EXPECT_EQ(arena_->get_state("m/w").data, m.data);
}

TEST_F(Checkpoints, EachKindOfDamageIsRefusedWithItsReason) {
  const auto damaged = [&](std::int64_t step, const char* file, void (*damage)(const fs::path&)) {
    folder_.save(*arena_, state(step));
    damage(folder_.path(step) / file);
    return reason(step);
  };
  EXPECT_THAT(damaged(1, "model.safetensors", truncate), HasSubstr("truncated"));
  EXPECT_THAT(damaged(2, "model.safetensors", flip_byte), HasSubstr("SHA-256"));
  EXPECT_THAT(damaged(3, "optimizer.safetensors", flip_byte), HasSubstr("optimizer.safetensors"));
  EXPECT_THAT(damaged(4, "state.json", truncate), HasSubstr("truncated or damaged"));
  EXPECT_THAT(damaged(5, "state.json", flip_byte), HasSubstr("state.json"));
  EXPECT_THAT(damaged(6, "model.safetensors", [](const fs::path& p) { fs::remove(p); }), HasSubstr("No such file"));
  EXPECT_THAT(damaged(7, "state.json", [](const fs::path& p) { fs::remove(p); }), HasSubstr("state.json"));
}

TEST_F(Checkpoints, OneOfAnotherFormatIsRefusedWithItsNumber) {
  folder_.save(*arena_, state(5));
  nlohmann::json json = nlohmann::json::parse(read_file(folder_.path(5) / "state.json", 1 << 20));
  json["format"] = 1;
  write_file_atomic(folder_.path(5) / "state.json", json.dump());
  EXPECT_THAT(reason(5),
              ::testing::AllOf(HasSubstr("format 1"), HasSubstr("reads format 2"), HasSubstr("another version")));
}

TEST_F(Checkpoints, TheOneBeforeADamagedOneIsUsed) {
  for (const std::int64_t step : {10, 20, 30}) folder_.save(*arena_, state(step));
  truncate(folder_.path(30) / "model.safetensors");
  const NewestCheckpoint newest = newest_checkpoint(folder_);
  ASSERT_TRUE(newest.found.has_value());
  EXPECT_EQ(newest.found->step, 20);
  ASSERT_EQ(newest.damaged.size(), 1U);
  EXPECT_EQ(newest.damaged[0].first, 30);
  folder_.set_aside(30);
  EXPECT_THAT(folder_.steps(), ElementsAre(10, 20));
}

TEST_F(Checkpoints, PruningKeepsTheLastAndTheBest) {
  for (const std::int64_t step : {1, 2, 3, 4, 5}) folder_.save(*arena_, state(step));
  folder_.prune(2, 1);
  EXPECT_THAT(folder_.steps(), ElementsAre(1, 4, 5));
}

TEST_F(Checkpoints, WhatAKilledProcessLeftUnfinishedIsRemovedAndNeverSeen) {
  folder_.save(*arena_, state(3));
  fs::create_directory(directory_ / ".writing-4-123");
  std::ofstream(directory_ / ".writing-4-123" / "model.safetensors") << "half";
  EXPECT_THAT(folder_.steps(), ElementsAre(3));
  folder_.prepare();
  EXPECT_FALSE(fs::exists(directory_ / ".writing-4-123"));
  EXPECT_THAT(folder_.steps(), ElementsAre(3));
}

TEST_F(Checkpoints, SavingAStepAgainReplacesIt) {
  folder_.save(*arena_, state(3));
  TrainState later = state(3);
  later.epoch = 3;
  folder_.save(*arena_, later);
  EXPECT_EQ(folder_.load_state(3).epoch, 3);
  EXPECT_THAT(folder_.steps(), ElementsAre(3));
}

class Exports : public Checkpoints {
 protected:
  // The state `name` after it was written as `weights` and read again.
  Tensor through(DType weights, const std::string& name) {
    fs::remove_all(directory_ / "model");
    export_model(folder_.path(4), directory_ / "model", weights);
    Arena other(open_device("cpu", {1, {}}), arena_->states(), {});
    load_model(directory_ / "model", other);
    return other.get_state(name);
  }
};

TEST_F(Exports, KeepWeightsInTheWidthThatIsAskedForAndAllElseAsItIs) {
  folder_.save(*arena_, state(4));
  const Tensor w = arena_->get_state("w");
  for (const DType weights : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor expected = float_cast(w.type, w.data, weights);
    EXPECT_EQ(through(weights, "w").data, float_cast(expected.type, expected.data, DType::f32).data);
    EXPECT_EQ(through(weights, "running").data, arena_->get_state("running").data);
    const SafetensorsFile file(directory_ / "model" / "model.safetensors");
    EXPECT_EQ(file.tensor("w").type.dtype, weights);
    EXPECT_EQ(file.tensor("running").type.dtype, DType::f32);
    const TrainState read = load_model_state(directory_ / "model");
    EXPECT_EQ(read.step, 4);
    EXPECT_EQ(read.task.target.target_names, state(4).task.target.target_names);
    EXPECT_FALSE(fs::exists(directory_ / "model" / "optimizer.safetensors"));
  }
}

TEST_F(Exports, RefuseWeightsThatAreTooLargeForF16ByName) {
  Tensor w = arena_->get_state("w");
  w.as<float>()[7] = -65504.0F;
  arena_->set_state("w", w);
  folder_.save(*arena_, state(4));
  EXPECT_EQ(through(DType::f16, "w").as<float>()[7], -65504.0F);
  w.as<float>()[7] = -65505.0F;
  arena_->set_state("w", w);
  folder_.save(*arena_, state(4));
  fs::remove_all(directory_ / "model");
  try {
    export_model(folder_.path(4), directory_ / "model", DType::f16);
    ADD_FAILURE() << "nothing was refused";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::checkpoint);
    EXPECT_THAT(e.what(), AllOf(HasSubstr("'w'"), HasSubstr("-65505"), HasSubstr("place 7"), HasSubstr("65504")));
  }
  EXPECT_FALSE(fs::exists(directory_ / "model"));
  EXPECT_EQ(through(DType::bf16, "w").as<float>()[7], -65536.0F);
}

TEST_F(Exports, AreNotWrittenOverWhatIsThereAndAreCheckedWhenRead) {
  folder_.save(*arena_, state(4));
  export_model(folder_.path(4), directory_ / "model", DType::f16);
  EXPECT_THROW(export_model(folder_.path(4), directory_ / "model", DType::f32), Error);
  EXPECT_EQ(SafetensorsFile(directory_ / "model" / "model.safetensors").tensor("w").type.dtype, DType::f16);
  const fs::path file = directory_ / "model" / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_THROW(load_model_state(directory_ / "model"), Error);
  for (const auto& entry : fs::directory_iterator(directory_)) {
    EXPECT_THAT(entry.path().filename().string(), ::testing::Not(HasSubstr("exporting")));
  }
}

TEST_F(Checkpoints, TensorsOfAnotherModelAreRefusedByName) {
  folder_.save(*arena_, state(3));
  Graph g;
  g.parameter("w", {DType::f32, {3, 6}}, {});
  g.state("running", {DType::f32, {5}}, MemoryClass::parameters);
  StateLayout states(64);
  states.add(g);
  Arena other(open_device("cpu", {1, {}}), states, {});
  try {
    folder_.load_tensors(3, other, false);
    FAIL() << "loaded";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'w' is f32[3,5], expected f32[3,6]"));
  }
}

}  // namespace
}  // namespace trivet
