// A damaged checkpoint is named with its damage, and never used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "tests/tools/jobs.h"
#include "tests/tools/program.h"

namespace trivet::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

void truncate(const fs::path& path) { fs::resize_file(path, fs::file_size(path) / 2); }

void change_the_batch(const fs::path& path) {
  std::string content = slurp(path);
  const std::size_t at = content.find("\"batch\": ");
  ASSERT_NE(at, std::string::npos) << content;
  content[at + 9] = content[at + 9] == '1' ? '2' : '1';
  overwrite(path, content);
}

void remove(const fs::path& path) { ASSERT_TRUE(fs::remove(path)); }

struct Damage {
  const char* file;
  void (*apply)(const fs::path&);
  const char* reason;
};

// One run that was killed, from which each test takes a copy, and the same run undisturbed.
class DamageTest : public ::testing::Test {
 protected:
  void SetUp() override { write_small_set(folder_, "train", 240); }

  // Kills a run as soon as there is the checkpoint of `step` beside an older one.
  void prepare(const std::string& text, int step) {
    job_ = folder_.write("job.yaml", text);
    ASSERT_EQ(reference_.trivet({"run", job_.string()}).exit_code, 0);
    for (int tries = 0; tries < 8; ++tries) {
      fs::remove_all(killed_.path());
      Program program(killed_.command({"run", job_.string()}));
      wait_while_running(program, [&] {
        const std::vector<int> steps = checkpoint_steps(killed_.checkpoints("r0001"));
        return steps.size() > 1 && steps.back() >= step;
      });
      const std::optional<ProcessId> worker = program.worker();
      if (worker) ::kill(static_cast<pid_t>(worker->pid), SIGKILL);
      if (program.wait().exit_code == 128 + SIGKILL) return;
    }
    FAIL() << "no run was met at work";
  }

  // A workspace moves as a whole.
  Workspace copy(const std::string& name) const {
    fs::copy(killed_.path(), folder_ / name, fs::copy_options::recursive);
    return Workspace(folder_ / name);
  }

  TempDir folder_;
  fs::path job_;
  const Workspace reference_{folder_ / "reference"};
  const Workspace killed_{folder_ / "killed"};
};

TEST_F(DamageTest, ResumingWarnsAndUsesTheCheckpointBeforeAndEndsWithTheSameBits) {
  ASSERT_NO_FATAL_FAILURE(prepare(cnn_job(8), 9));
  const Damage damages[] = {
      {"model.safetensors", truncate, "truncated"},
      {"model.safetensors", flip_last_byte, "does not match its SHA-256"},
      {"model.safetensors", remove, "No such file"},
      {"optimizer.safetensors", truncate, "truncated"},
      {"optimizer.safetensors", flip_last_byte, "does not match its SHA-256"},
      {"optimizer.safetensors", remove, "No such file"},
      {"state.json", truncate, "is not a JSON object"},
      {"state.json", change_the_batch, "does not match its own SHA-256"},
      {"state.json", remove, "No such file"},
  };
  int number = 0;
  for (const Damage& damage : damages) {
    SCOPED_TRACE(fmt::format("{}: {}", damage.file, damage.reason));
    const Workspace workspace = copy(fmt::format("damaged-{}", number++));
    const fs::path checkpoints = workspace.checkpoints("r0001");
    const std::vector<int> steps = checkpoint_steps(checkpoints);
    ASSERT_GT(steps.size(), 1u);
    const fs::path newest = checkpoint_path(checkpoints, steps.back());
    damage.apply(newest / damage.file);
    const Ended resumed = workspace.trivet({"resume", "r0001"});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    EXPECT_THAT(resumed.out, HasSubstr(fmt::format("warning: checkpoint {} is damaged and not used: ", steps.back())));
    EXPECT_THAT(resumed.out, AllOf(HasSubstr(damage.file), HasSubstr(damage.reason)));
    EXPECT_THAT(resumed.out, HasSubstr(fmt::format("going on from checkpoint {}:", steps[steps.size() - 2])));
    EXPECT_TRUE(fs::exists(newest.string() + ".damaged"));
    expect_same_outcome(reference_.folder("r0001"), workspace.folder("r0001"));
  }
}

TEST_F(DamageTest, FilesThatAKilledAttemptHadNotFinishedAreRemovedByTheNext) {
  ASSERT_NO_FATAL_FAILURE(prepare(cnn_job(8), 9));
  const fs::path left = killed_.folder("r0001") / "result.json.tmp-1-0";
  overwrite(left, "{");
  const Ended resumed = killed_.trivet({"resume", "r0001"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(DamageTest, WithoutAWholeCheckpointTheRunStartsAtTheBeginningAndSaysSo) {
  ASSERT_NO_FATAL_FAILURE(prepare(micro_batch_job(8), 9));
  const fs::path checkpoints = killed_.checkpoints("r0001");
  for (const int step : checkpoint_steps(checkpoints)) {
    flip_last_byte(checkpoint_path(checkpoints, step) / "optimizer.safetensors");
  }
  const Ended resumed = killed_.trivet({"resume", "r0001"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(resumed.out, HasSubstr("no checkpoint to go on from: starting at the beginning"));
  expect_same_outcome(reference_.folder("r0001"), killed_.folder("r0001"));
}

TEST_F(DamageTest, ADamagedBestCheckpointIsNamedAtTheEndAndItsResultsAreNotReported) {
  ASSERT_NO_FATAL_FAILURE(prepare(easy_job(), 50));
  const fs::path checkpoints = killed_.checkpoints("r0001");
  const json result = json::parse(slurp(reference_.folder("r0001") / "result.json"));
  const int best = result.at("checkpoint").get<int>();
  ASSERT_LT(best, 50);
  flip_last_byte(checkpoint_path(checkpoints, best) / "model.safetensors");
  const Ended resumed = killed_.trivet({"resume", "r0001"});
  EXPECT_EQ(resumed.exit_code, 6) << resumed.out;
  EXPECT_THAT(resumed.err, AllOf(HasSubstr(checkpoint_path("", best).string()), HasSubstr("damaged")));
  EXPECT_FALSE(fs::exists(killed_.folder("r0001") / "result.json"));
}

}  // namespace
}  // namespace trivet::testing
