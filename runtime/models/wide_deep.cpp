#include <fmt/format.h>

#include "runtime/models/families.h"
#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

// All columns of categories share one table: each column's rows begin where those of the column before end.
struct Categories {
  ValueId rows = kNoValue;  // i32 (B, K): row of the table for each category
  std::int64_t columns = 0;
  std::int64_t table_rows = 0;
};

Categories shared_rows(Graph& graph, ValueId values, const std::vector<std::int64_t>& sizes) {
  Categories result;
  result.columns = static_cast<std::int64_t>(sizes.size());
  std::vector<std::int32_t> first;
  for (const std::int64_t size : sizes) {
    first.push_back(static_cast<std::int32_t>(result.table_rows));
    result.table_rows += size;
  }
  const ValueId offsets = graph.constant(Tensor::of<std::int32_t>(DType::i32, {result.columns}, first), "first_rows");
  result.rows = apply(graph, "add", {values, offsets}, {}, "rows");
  return result;
}

}  // namespace

ValueId build_wide_deep(Graph& graph, nn::Builder& builder, const ModelConfig& config, const ModelInput& input,
                        std::span<const ValueId> values) {
  ValueId numbers = kNoValue;
  std::optional<Categories> categories;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const TensorType& type = graph.type(values[i]);
    if (type.dtype == DType::i32 && type.rank() == 2 && i < input.category_sizes.size() && !categories) {
      categories = shared_rows(graph, values[i], input.category_sizes[i]);
    } else if (type.dtype == DType::f32 && type.rank() == 2 && numbers == kNoValue) {
      numbers = values[i];
    } else {
      throw Error(ErrorCode::graph,
                  fmt::format("the model wide_deep cannot use input '{}' of type {}", graph.value(values[i]).name,
                              to_string(type)),
                  "it takes numbers (B,F) and categories (B,K), as tables give them");
    }
  }
  std::vector<ValueId> wide, deep;
  if (numbers != kNoValue) {
    wide.push_back(builder.dense(numbers, {.units = input.outputs, .bias = false}));
    deep.push_back(numbers);
  }
  if (categories) {
    // One weight for each category and output is what a linear model has on its one-hot columns.
    const ValueId weights = builder.embedding(categories->rows, categories->table_rows, input.outputs);
    wide.push_back(
        apply(graph, "reduce_sum", {weights}, {{"axes", std::vector<std::int64_t>{1}}, {"keepdims", false}}, "wide"));
    deep.push_back(builder.flatten(builder.embedding(categories->rows, categories->table_rows, config.embedding)));
  }
  ValueId x = deep.size() == 1 ? deep[0] : apply(graph, "concat", deep, {{"axis", std::int64_t{1}}}, "deep");
  const nn::Activation activation = nn::activation_from_name(config.activation);
  for (const std::int64_t units : config.hidden.empty() ? std::vector<std::int64_t>{128, 64} : config.hidden) {
    x = builder.activation(builder.dense(x, {.units = units, .next = activation}), activation);
  }
  x = builder.dense(builder.dropout(x, config.dropout), {.units = input.outputs});
  for (const ValueId part : wide) x = apply(graph, "add", {x, part});
  return x;
}

}  // namespace trivet
