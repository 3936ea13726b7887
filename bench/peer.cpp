// One of the two sides of bench/peers/compare.py: Trivet. Reads "run N" lines, does N steps, answers with seconds.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <random>

#include "bench/models.h"
#include "trivet/base/error.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

struct Options {
  std::string work = "mlp";
  std::string mode = "train";
  std::string dtype = "f32";
  std::int64_t batch = 128;
  int threads = 2;
  std::string device = "cpu";
};

// Random data for every input of the plan; they stay in place, so only what the plan overwrites is set again.
class Peer {
 public:
  Peer(const Options& options, std::shared_ptr<const Device> device) : options_(options) {
    const ModelTask task = bench::task_of(options.work, options.dtype);
    TrainConfig config;
    config.batch = options.batch;
    config.top_k = 1;
    if (options.mode == "train") {
      const TrainPlans plans = plan_training(task, config, {options.batch, 0, 0}, *device);
      plan_ = plans.step.at(options.batch);
      arena_ = std::make_shared<Arena>(device, plans.states, plans.all());
    } else {
      StateLayout states(device->alignment());
      const TilePlans plans = predict_plans(task, {options.batch}, states, *device);
      arena_ = std::make_shared<Arena>(device, states, plans.all());
      tiles_ = std::make_unique<TiledSession>(arena_, plans);
    }
    arena_->initialize(1);
    std::mt19937 rng(1);
    std::normal_distribution<float> normal;
    if (!plan_) {
      const TensorType type = task.input.fields[0].batch(options.batch);
      Tensor t(type);
      for (float& v : t.as<float>()) v = normal(rng);
      inputs_.emplace_back("x", std::move(t));
      prediction_ = Tensor({DType::f32, {options.batch, 10}});
      return;
    }
    session_ = std::make_unique<Session>(arena_, plan_);
    for (const auto& [name, value] : plan_->inputs) {
      Tensor t(plan_->values[static_cast<std::size_t>(value)].type);
      if (t.type.dtype == DType::f32) {
        for (float& v : t.as<float>()) v = name == "x" ? normal(rng) : name == "lr" ? 1e-3F : 1.0F / 128;
      } else if (t.type.dtype == DType::i32) {
        for (std::int32_t& v : t.as<std::int32_t>()) v = static_cast<std::int32_t>(rng() % 10);
      }
      inputs_.emplace_back(name, std::move(t));
    }
  }

  void step() {
    ++steps_;
    if (tiles_) {
      const auto& x = inputs_[0].second.data;
      const TiledSession::Input in[] = {{"x", x.data(), x.size()}};
      const TiledSession::Output out[] = {{"prediction", prediction_.data.data(), prediction_.data.size()}};
      tiles_->run(options_.batch, in, out);
      sink_ = prediction_.as<float>()[0];
      return;
    }
    for (auto& [name, tensor] : inputs_) {
      if (name == "step") tensor = Tensor::scalar_i64(steps_);
      session_->set_input(name, tensor.data.data(), tensor.data.size());
    }
    session_->run();
    sink_ = session_->scalar("loss");
  }

 private:
  const Options options_;
  std::shared_ptr<const Plan> plan_;
  std::shared_ptr<Arena> arena_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<TiledSession> tiles_;
  Tensor prediction_;
  std::vector<std::pair<std::string, Tensor>> inputs_;
  std::int64_t steps_ = 0;
  float sink_ = 0;
};

int run(const Options& options) {
  Peer peer(options, open_device(options.device, {options.threads, {}}));
  peer.step();
  std::cout << "ready" << std::endl;
  std::string word;
  for (std::int64_t count = 0; std::cin >> word >> count;) {
    const auto began = std::chrono::steady_clock::now();
    for (std::int64_t i = 0; i < count; ++i) peer.step();
    std::cout << fmt::format("{:.6f}", std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count())
              << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace trivet

int main(int argc, char** argv) {
  trivet::Options options;
  CLI::App app("Trivet's side of bench/peers/compare.py");
  app.add_option("--work", options.work)->check(CLI::IsMember({"mlp", "cnn", "resnet20", "lstm"}));
  app.add_option("--mode", options.mode)->check(CLI::IsMember({"train", "infer"}));
  app.add_option("--dtype", options.dtype)->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--batch", options.batch)->check(CLI::Range(1, 65536));
  app.add_option("--device", options.device);
  app.add_option("--threads", options.threads)->check(CLI::Range(1, 1024));
  CLI11_PARSE(app, argc, argv);
  try {
    return trivet::run(options);
  } catch (const trivet::Error& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
}
