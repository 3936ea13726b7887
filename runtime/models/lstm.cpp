#include <fmt/format.h>

#include "runtime/models/families.h"
#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {

ValueId build_lstm(Graph& graph, nn::Builder& builder, const ModelConfig& config, std::int64_t outputs, ValueId x) {
  const TensorType type = graph.type(x);
  if (type.rank() == 4) {
    const std::vector<std::int64_t> shape = {type.dim(0), type.dim(1), type.dim(2) * type.dim(3)};
    x = apply(graph, "reshape", {x}, {{"shape", shape}}, "rows");
  } else if (type.rank() != 3) {
    throw Error(ErrorCode::graph, fmt::format("the model lstm got {}", to_string(type)),
                "it takes steps (B,T,F), or images, whose rows are the steps");
  }
  nn::Steps steps{x, kNoValue};
  for (std::int64_t layer = 0; layer < std::max<std::int64_t>(config.depth, 1); ++layer) {
    steps = builder.lstm(steps.all, config.units);
  }
  return builder.dense(builder.dropout(steps.last, config.dropout), {.units = outputs});
}

}  // namespace trivet
