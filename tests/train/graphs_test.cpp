// Training through graphs, passes, plans and sessions, as a run does it.
#include "trivet/train/graphs.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/golden/golden.h"
#include "trivet/exec/evaluate.h"
#include "trivet/train/plans.h"

namespace trivet {
namespace {

ModelTask golden_task(const std::string& name) {
  ModelConfig model;
  model.name = name;
  model.classes = golden::kClasses;
  model.hidden = {name == "mlp" ? 32 : 16};
  model.channels = {4, 8};
  return label_task(model, {golden::kSide, golden::kSide, 1}, 1);
}

// A model under training, fed by hand.
struct Bench {
  std::shared_ptr<const Device> device;
  TrainPlans plans;
  std::shared_ptr<Arena> arena;

  Bench(const ModelTask& task, const TrainConfig& config, const SampleCounts& counts, int threads = 1)
      : device(open_device("cpu", {threads, {}})),
        plans(plan_training(task, config, counts, *device)),
        arena(std::make_shared<Arena>(device, plans.states, plans.all())) {
    arena->initialize(task.seed);
  }

  void feed(Session& s, std::int64_t first, std::int64_t count, std::int64_t of, std::int64_t step) const {
    const Plan& plan = s.plan();
    const std::int64_t pixels = golden::kSide * golden::kSide;
    std::vector<float> x;
    std::vector<std::int32_t> y;
    std::vector<std::int64_t> sample;
    for (std::int64_t i = first; i < first + count; ++i) {
      const Tensor images = golden::images(i / golden::kBatch), labels = golden::labels(i / golden::kBatch);
      const auto row = images.as<float>().subspan(static_cast<std::size_t>(i % golden::kBatch * pixels),
                                                  static_cast<std::size_t>(pixels));
      x.insert(x.end(), row.begin(), row.end());
      y.push_back(labels.as<std::int32_t>()[static_cast<std::size_t>(i % golden::kBatch)]);
      sample.push_back(i);
    }
    const auto set = [&](const char* name, const auto& values) {
      if (plan.inputs.contains(name)) s.set_input(name, values.data(), values.size() * sizeof values[0]);
    };
    set("x", x);
    set("y", y);
    set("sample", sample);
    set("inv_count", std::vector<float>{1.0F / static_cast<float>(of)});
    set("step", std::vector<std::int64_t>{step});
  }

  void set_rate(Session& s, float lr, std::int64_t step) const {
    s.set_input("lr", &lr, sizeof lr);
    if (s.plan().inputs.contains("step")) s.set_input("step", &step, sizeof step);
  }
};

struct Case {
  const char* model;
  const char* optimizer;
};
class PlannedGolden : public ::testing::TestWithParam<Case> {};

TEST_P(PlannedGolden, TenStepsThroughPlanAndArenaGiveTheLossesOfAnIndependentImplementation) {
  const auto [model, optimizer] = GetParam();
  const nlohmann::json run = golden::file(model).at(optimizer);
  TrainConfig config;
  config.batch = golden::kBatch;
  config.optimizer.name = optimizer;
  config.optimizer.weight_decay = run.at("settings").at("weight_decay");
  Bench bench(golden_task(model), config, {golden::kBatch, 0, 0});
  Session session(bench.arena, bench.plans.step.at(golden::kBatch), /*poison=*/true);
  Graph names;  // carries the parameters' names and shapes in order
  for (const auto& slot : bench.plans.states.slots()) {
    if (slot.value.trainable) names.parameter(slot.value.name, slot.value.type, slot.value.init);
  }
  for (const auto& [name, value] : golden::parameters(names)) bench.arena->set_state(name, value);
  for (std::int64_t step = 0; step < 10; ++step) {
    bench.feed(session, step * golden::kBatch, golden::kBatch, golden::kBatch, step + 1);
    bench.set_rate(session, run.at("settings").at("lr").get<float>(), step + 1);
    session.run();
    const double expected = run.at("float64")[static_cast<std::size_t>(step)];
    EXPECT_NEAR(session.scalar("loss") / golden::kBatch, expected, 1e-5 * expected) << "step " << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PlannedGolden,
                         ::testing::Values(Case{"mlp", "sgd"}, Case{"mlp", "adamw"}, Case{"cnn", "sgd"},
                                           Case{"cnn", "adamw"}),
                         [](const auto& p) { return fmt::format("{}_{}", p.param.model, p.param.optimizer); });

TEST(Accumulation, RaggedMicroBatchesEqualTheLargeBatch) {
  constexpr std::int64_t kBatch = 50;  // micro-batches of 16, 16, 16, 2
  ModelTask task = golden_task("cnn");
  task.model.dropout = 0.3;  // its draws must not depend on how the batch is cut
  TrainConfig large;
  large.batch = kBatch;
  large.clip_norm = 0.5;
  large.optimizer.name = "sgd";  // AdamW divides by a small number and would enlarge rounding
  TrainConfig micro = large;
  micro.micro_batch = 16;
  Bench a(task, large, {kBatch, 0, 0}), b(task, micro, {kBatch, 0, 0});
  EXPECT_LT(b.plans.main().transient_bytes, a.plans.main().transient_bytes);
  Session step(a.arena, a.plans.step.at(kBatch), true);
  Session apply(b.arena, b.plans.apply, true);
  for (std::int64_t s = 1; s <= 4; ++s) {
    a.feed(step, 0, kBatch, kBatch, s);
    a.set_rate(step, 0.05F, s);
    step.run();
    double loss = 0;
    std::int64_t first = 0;
    for (const std::int64_t count : pieces(kBatch, 16)) {
      Session piece(b.arena, b.plans.accumulate.at(count), true);
      b.feed(piece, first, count, kBatch, s);
      piece.run();
      loss += static_cast<double>(piece.scalar("loss"));
      first += count;
    }
    b.set_rate(apply, 0.05F, s);
    apply.run();
    EXPECT_NEAR(loss, step.scalar("loss"), 1e-5 * loss) << "step " << s;
    EXPECT_NEAR(apply.scalar("grad_norm"), step.scalar("grad_norm"), 1e-5) << "step " << s;
  }
  for (const auto& slot : a.plans.states.slots()) {
    if (slot.value.memory != MemoryClass::parameters) continue;
    const Tensor x = a.arena->get_state(slot.value.name), y = b.arena->get_state(slot.value.name);
    for (std::size_t i = 0; i < x.as<float>().size(); ++i) {
      EXPECT_NEAR(x.as<float>()[i], y.as<float>()[i], 2e-6) << slot.value.name << " element " << i;
    }
  }
}

TEST(Training, BitsDoNotDependOnTheNumberOfThreads) {
  ModelTask task = golden_task("cnn");
  task.model.dropout = 0.2;
  task.model.batch_norm = true;
  TrainConfig config;
  config.batch = 64;
  std::vector<std::vector<std::byte>> states;
  for (const int threads : {1, 2}) {
    Bench bench(task, config, {64, 0, 0}, threads);
    Session session(bench.arena, bench.plans.step.at(64));
    for (std::int64_t s = 1; s <= 3; ++s) {
      bench.feed(session, 0, 64, 64, s);
      bench.set_rate(session, 0.01F, s);
      session.run();
    }
    states.emplace_back();
    for (const auto& slot : bench.plans.states.slots()) {
      const Tensor t = bench.arena->get_state(slot.value.name);
      states.back().insert(states.back().end(), t.data.begin(), t.data.end());
    }
  }
  EXPECT_EQ(states[0], states[1]);
}

TEST(Clipping, ScalesTheGradientToTheLargestNorm) {
  // With plain SGD from the same start, the update is lr * gradient: clipping to c makes its length lr * c.
  ModelTask task = golden_task("mlp");
  TrainConfig config;
  config.batch = golden::kBatch;
  config.optimizer.name = "sgd";
  config.optimizer.momentum = 0;
  config.clip_norm = 0.25;
  Bench bench(task, config, {golden::kBatch, 0, 0});
  std::map<std::string, Tensor> before;
  for (const auto& slot : bench.plans.states.slots()) before[slot.value.name] = bench.arena->get_state(slot.value.name);
  Session session(bench.arena, bench.plans.step.at(golden::kBatch));
  bench.feed(session, 0, golden::kBatch, golden::kBatch, 1);
  bench.set_rate(session, 1.0F, 1);
  session.run();
  EXPECT_GT(session.scalar("grad_norm"), 0.25F);
  double squares = 0;
  for (const auto& [name, old] : before) {
    if (name.starts_with("momentum/")) continue;
    const Tensor now = bench.arena->get_state(name);
    for (std::size_t i = 0; i < now.as<float>().size(); ++i)
      squares += std::pow(now.as<float>()[i] - old.as<float>()[i], 2);
  }
  EXPECT_NEAR(std::sqrt(squares), 0.25, 1e-4);
}

// All states after one step with the given samples, plain SGD.
std::map<std::string, Tensor> stepped(const ModelTask& task, const std::vector<std::int64_t>& samples,
                                      const std::vector<float>& weights) {
  TrainConfig config;
  const auto count = static_cast<std::int64_t>(samples.size());
  config.batch = count;
  config.optimizer.name = "sgd";
  Bench bench(task, config, {count, 0, 0});
  Session session(bench.arena, bench.plans.step.at(count), true);
  const Tensor images = golden::images(0), labels = golden::labels(0);
  const std::size_t pixels = golden::kSide * golden::kSide;
  std::vector<float> x;
  std::vector<std::int32_t> y;
  for (const std::int64_t sample : samples) {
    const auto row = images.as<float>().subspan(static_cast<std::size_t>(sample) * pixels, pixels);
    x.insert(x.end(), row.begin(), row.end());
    y.push_back(labels.as<std::int32_t>()[static_cast<std::size_t>(sample)]);
  }
  session.set_input("x", x.data(), x.size() * sizeof(float));
  session.set_input("y", y.data(), y.size() * sizeof(std::int32_t));
  const float share = 1.0F / static_cast<float>(count);
  if (weights.empty()) {
    session.set_input("inv_count", &share, sizeof share);
  } else {
    session.set_input("weight", weights.data(), weights.size() * sizeof(float));
  }
  bench.set_rate(session, 0.1F, 1);
  session.run();
  std::map<std::string, Tensor> states;
  for (const auto& slot : bench.plans.states.slots()) states[slot.value.name] = bench.arena->get_state(slot.value.name);
  return states;
}

TEST(Weights, CountASampleAsOftenAsItsWeightSays) {
  ModelTask task = golden_task("mlp");
  const auto repeated = stepped(task, {0, 1, 1, 1, 2, 2}, {});
  task.weighted = true;
  const auto weighted = stepped(task, {0, 1, 2}, {1.0F / 6, 3.0F / 6, 2.0F / 6});
  for (const auto& [name, expected] : repeated) {
    const auto got = weighted.at(name).as<float>();
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected.as<float>()[i], 1e-6) << name;
  }
}

TEST(Averages, FollowEveryParameterAndRunningStatistic) {
  ModelTask task = golden_task("cnn");
  task.model.batch_norm = true;
  for (const std::int64_t micro : {0, 8}) {
    TrainConfig config;
    config.batch = golden::kBatch;
    config.micro_batch = micro;
    config.average = AverageConfig{0.75, 0};
    Bench bench(task, config, {golden::kBatch, 0, 0});
    std::map<std::string, Tensor> expected;
    for (const auto& slot : bench.plans.states.slots()) {
      if (slot.value.memory == MemoryClass::parameters) expected[slot.value.name] = Tensor(slot.value.type);
    }
    EXPECT_TRUE(expected.contains("batch_norm1.running_mean"));
    for (std::int64_t s = 1; s <= 3; ++s) {
      Session update(bench.arena, micro > 0 ? bench.plans.apply : bench.plans.step.at(golden::kBatch), true);
      if (micro > 0) {
        Session piece(bench.arena, bench.plans.accumulate.at(micro), true);
        for (std::int64_t first = 0; first < golden::kBatch; first += micro) {
          bench.feed(piece, first, micro, golden::kBatch, s);
          piece.run();
        }
      } else {
        bench.feed(update, 0, golden::kBatch, golden::kBatch, s);
      }
      bench.set_rate(update, 0.01F, s);
      update.run();
      for (auto& [name, average] : expected) {
        const Tensor now = bench.arena->get_state(name), got = bench.arena->get_state("average/" + name);
        for (std::size_t i = 0; i < average.as<float>().size(); ++i) {
          float& e = average.as<float>()[i];
          e = 0.75F * e + 0.25F * now.as<float>()[i];
          EXPECT_NEAR(got.as<float>()[i], e, 1e-6) << name << " element " << i << " step " << s;
        }
      }
    }
  }
}

TEST(Losses, OfNumbersAreMeansOverTheElementsOfASample) {
  // A model without weights: one dense layer whose parameters are set to give x itself.
  ModelTask task;
  task.model.name = "layers";
  LayerConfig dense;
  dense.type = "dense";
  dense.units = 2;
  task.model.layers = {dense};
  task.input.fields = {{"x", DType::f32, {2}}};
  task.input.category_sizes = {{}};
  task.input.outputs = 2;
  task.target.kind = TargetKind::number;
  const std::vector<float> x = {0.5F, 3.0F, -1.0F, 0.0F}, y = {0.0F, 0.0F, 0.0F, 0.25F};
  // Errors 0.5, 3 and -1, -0.25.
  const std::map<std::string, double> expected = {{"mse", (0.25 + 9) / 2 + (1 + 0.0625) / 2},
                                                  {"l1", 3.5 / 2 + 1.25 / 2},
                                                  {"huber", (0.125 + 2.5) / 2 + (0.5 + 0.03125) / 2}};
  for (const auto& [loss, sum] : expected) {
    TrainConfig config;
    config.loss = loss;
    config.batch = 2;
    Bench bench(task, config, {2, 2, 0});
    bench.arena->set_state("dense1.weight", Tensor::of<float>(DType::f32, {2, 2}, std::vector<float>{1, 0, 0, 1}));
    Session session(bench.arena, bench.plans.evaluate.at(2), true);
    session.set_input("x", x.data(), x.size() * sizeof(float));
    session.set_input("y", y.data(), y.size() * sizeof(float));
    session.run();
    EXPECT_NEAR(session.scalar("loss"), sum, 1e-6) << loss;
    std::vector<float> prediction(4);
    session.read_output("prediction", prediction.data(), 4 * sizeof(float));
    EXPECT_EQ(prediction, x);
  }
}

TEST(Optimizers, EachLowersTheLoss) {
  for (const char* name : {"sgd", "adamw", "lion", "adafactor", "muon"}) {
    for (const double clip : {0.0, 1.0}) {
      TrainConfig config;
      config.batch = golden::kBatch;
      config.optimizer.name = name;
      config.optimizer.nesterov = true;
      config.optimizer.weight_decay = 0.01;
      config.clip_norm = clip;
      Bench bench(golden_task("cnn"), config, {golden::kBatch, 0, 0});
      Session session(bench.arena, bench.plans.step.at(golden::kBatch), true);
      std::vector<double> losses;
      for (std::int64_t s = 1; s <= 12; ++s) {
        bench.feed(session, 0, golden::kBatch, golden::kBatch, s);
        bench.set_rate(session, std::string_view(name) == "lion" ? 0.003F : 0.02F, s);
        session.run();
        losses.push_back(static_cast<double>(session.scalar("loss")) / golden::kBatch);
      }
      EXPECT_LT(losses.back(), 0.95 * losses.front()) << name << ", clipped to " << clip;
    }
  }
}

TEST(PlanTraining, CountsTheFlopsOfTheMatrixProductsByHand) {
  TrainConfig config;
  config.batch = golden::kBatch;
  Bench bench(golden_task("mlp"), config, {golden::kBatch, 0, 0});
  double matrix = 0;
  for (const PlannedStep& s : bench.plans.main().steps) {
    if (s.matrix) matrix += s.flops;
  }
  // Forward, weight gradients of both layers, data gradient of the second: 2 * B * in * out each.
  const double first = 2.0 * 16 * 144 * 32, second = 2.0 * 16 * 32 * 10;
  EXPECT_NEAR(matrix, 2 * first + 3 * second, 0.01 * matrix);  // biases are counted with the products
}

TEST(PlanTraining, CompilesAPlanForEverySizeThatOccurs) {
  TrainConfig config;
  config.batch = 32;
  const Bench plain(golden_task("mlp"), config, {70, 33, 10});
  EXPECT_EQ(plain.plans.step.size(), 2U);  // 32, 6
  EXPECT_TRUE(plain.plans.step.contains(6));
  EXPECT_EQ(plain.plans.evaluate.size(), 3U);  // 32, 1, 10
  config.micro_batch = 10;
  const Bench micro(golden_task("mlp"), config, {70, 0, 0});
  EXPECT_EQ(micro.plans.accumulate.size(), 3U);  // 32 = 10+10+10+2, 6
  EXPECT_EQ(micro.arena->bytes(), micro.plans.arena_bytes());
}

// The batch norms of a ResNet that add no shortcut are gone; probabilities are those of evaluation up to rounding.
TEST(Prediction, FoldsBatchNormsIntoTheWeightsBeforeThem) {
  ModelConfig model;
  model.name = "resnet";
  model.depth = 8;
  model.classes = 5;
  const ModelTask task = label_task(model, {8, 8, 3}, 1);
  const Graph whole = evaluate_graph(task, {}, 4), folded = predict_graph(task, 4);
  const auto norms = [](const Graph& g) {
    return std::count_if(g.nodes().begin(), g.nodes().end(), [](const Node& n) { return n.op->name == "batch_norm"; });
  };
  EXPECT_EQ(norms(whole), 9);
  EXPECT_EQ(norms(folded), 3);
  std::map<std::string, Tensor> bindings = {{"x", Tensor({DType::f32, {4, 8, 8, 3}})},
                                            {"y", Tensor({DType::i32, {4}})}};
  std::mt19937 rng(1);
  const auto fill = [&](Tensor& t, float least) {
    for (float& v : t.as<float>()) v = least + static_cast<float>(rng() % 1000) / 1000.0F;
  };
  fill(bindings["x"], -0.5F);
  for (const ValueId v : whole.states()) {
    const std::string& name = whole.value(v).name;
    if (whole.type(v).rank() != 1) continue;
    fill(bindings[name] = Tensor(whole.type(v)), name.ends_with("running_var") ? 0.1F : -0.5F);
  }
  const auto prediction = [&](const Graph& g) {
    const std::vector<Tensor> outputs = evaluate(g, bindings, kernels::cpu::best_isa());
    const auto is_it = [](const NamedValue& o) { return o.name == "prediction"; };
    const auto at = std::find_if(g.outputs().begin(), g.outputs().end(), is_it) - g.outputs().begin();
    return outputs[static_cast<std::size_t>(at)];
  };
  const Tensor expected = prediction(whole), found = prediction(folded);
  for (std::size_t i = 0; i < expected.as<float>().size(); ++i) {
    EXPECT_NEAR(found.as<float>()[i], expected.as<float>()[i], 1e-5) << i;
  }
  EXPECT_NE(expected.as<float>()[0], expected.as<float>()[5]);
}

TEST(Dropout, IsTheSameGraphForEveryNumberOfThreadsAndAbsentInEvaluation) {
  ModelTask task = golden_task("cnn");
  task.model.dropout = 0.5;
  const Graph evaluate = evaluate_graph(task, {}, 8);
  for (const Node& node : evaluate.nodes()) EXPECT_NE(node.op->name, "dropout");
  EXPECT_FALSE(evaluate.find("sample").has_value());
}

}  // namespace
}  // namespace trivet
