#include <string_view>
#include <unordered_map>

#include "kernels/cuda/families.h"

namespace trivet::kernels::cuda {

namespace {

using Table = std::unordered_map<std::string_view, const KernelEntry*>;

Table build() {
  Table table;
  for (const std::span<const KernelEntry> family :
       {elementwise_kernels(),    unary_kernels(),        activation_kernels(),
        cast_kernels(),           softmax_kernels(),      loss_kernels(),
        pointwise_loss_kernels(), norm_rows_kernels(),    batch_norm_kernels(),
        reduction_kernels(),      optimizer_kernels(),    shape_kernels(),
        padding_kernels(),        group_norm_kernels(),   indexing_kernels(),
        scatter_kernels(),        cumulative_kernels(),   sorting_kernels(),
        resize_kernels(),         quantization_kernels(), int8_kernels(),
        lstm_kernels(),           gru_kernels(),          pooling_kernels(),
        random_kernels(),         rotary_kernels(),       attention_kernels()}) {
    for (const KernelEntry& entry : family) table.emplace(entry.op, &entry);
  }
  return table;
}

}  // namespace

const KernelEntry* find(std::string_view op) {
  static const Table table = build();
  const auto it = table.find(op);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace trivet::kernels::cuda
