// Defines a network, trains it to tell whether a point lies inside of a circle, and runs it.
#include <trivet/trivet.h>

#include <cmath>
#include <cstdio>
#include <random>

using namespace trivet;
constexpr std::int64_t kBatch = 64;
constexpr int kSteps = 1000;

int main() {
  // The graph: points (B, 2) -> logits (B, 2), loss, gradients, one SGD step for each parameter.
  Graph graph("circle");
  const ValueId x = graph.input("x", {DType::f32, {kBatch, 2}});
  const ValueId y = graph.input("y", {DType::i32, {kBatch}});
  const ValueId lr = graph.input("lr", {DType::f32, {}});
  nn::Builder layers(graph, /*training=*/true, /*seed=*/1);
  const ValueId hidden = layers.activation(layers.dense(x, {.units = 32}), nn::Activation::tanh);
  const ValueId logits = layers.dense(hidden, {.units = 2});
  const ValueId loss = apply(graph, "reduce_mean", {apply(graph, "cross_entropy", {logits, y})}, {{"keepdims", false}});
  graph.set_output("loss", loss);
  graph.set_output("probabilities", apply(graph, "softmax", {logits}));
  const std::vector<ValueId> parameters = graph.states();
  const std::vector<ValueId> slopes = gradients(graph, loss, kNoValue, parameters);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const TensorType type = graph.type(parameters[i]);
    const ValueId momentum = graph.state("momentum" + std::to_string(i), type, MemoryClass::optimizer);
    const auto step = apply_all(graph, "sgd_step", {parameters[i], slopes[i], momentum, lr}, {{"momentum", 0.9}});
    graph.set_update(parameters[i], step[0]);
    graph.set_update(momentum, step[1]);
  }

  // The plan: all memory is known before anything runs.
  const auto device = open_device("cpu");
  StateLayout states(device->alignment());
  states.add(graph);
  const auto plan = compile(drop_dead(graph), states, *device);
  const auto arena = std::make_shared<Arena>(device, states, std::vector{plan});
  arena->initialize(/*seed=*/1);
  Session session(arena, plan);
  std::printf("one arena of %zu bytes, %.0f operations a step\n", arena->bytes(), plan->flops());

  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> points(2 * kBatch);
  std::vector<std::int32_t> inside(kBatch);
  for (int step = 1; step <= kSteps; ++step) {
    for (float& p : points) p = uniform(random);
    for (std::size_t i = 0; i < kBatch; ++i) inside[i] = std::hypot(points[2 * i], points[2 * i + 1]) < 0.7F;
    const float rate = 0.1F;
    session.set_input("x", points.data(), points.size() * sizeof(float));
    session.set_input("y", inside.data(), inside.size() * sizeof(std::int32_t));
    session.set_input("lr", &rate, sizeof rate);
    session.run();
    if (step % 250 == 0) std::printf("step %d: loss %.4f\n", step, static_cast<double>(session.scalar("loss")));
  }
  const Tensor probabilities = session.output("probabilities");
  std::printf("(%.2f, %.2f): inside with probability %.3f\n", points[0], points[1], probabilities.as<float>()[1]);
}
