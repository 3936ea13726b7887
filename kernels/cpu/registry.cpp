// Finds a kernel by op name: one hash table for each instruction set, built when first asked for.
#include <string_view>
#include <unordered_map>

#include "kernels/cpu/families.h"
#include "trivet/kernels/cpu.h"

namespace trivet::kernels::cpu {

namespace {

using Table = std::unordered_map<std::string_view, const KernelEntry*>;

void insert(Table& table, std::span<const KernelEntry> family) {
  for (const KernelEntry& entry : family) table.emplace(entry.op, &entry);
}

// The families compiled for every instruction set, taken from one of their namespaces.
#define TRIVET_INSERT_VECTOR_FAMILIES(table, isa)    \
  do {                                               \
    insert(table, isa::elementwise_kernels());       \
    insert(table, isa::reduction_kernels());         \
    insert(table, isa::shape_kernels());             \
    insert(table, isa::padding_kernels());           \
    insert(table, isa::pooling_kernels());           \
    insert(table, isa::normalization_kernels());     \
    insert(table, isa::row_normalization_kernels()); \
    insert(table, isa::softmax_kernels());           \
    insert(table, isa::loss_kernels());              \
    insert(table, isa::pointwise_loss_kernels());    \
    insert(table, isa::random_kernels());            \
    insert(table, isa::optimizer_kernels());         \
    insert(table, isa::unary_kernels());             \
    insert(table, isa::activation_kernels());        \
    insert(table, isa::indexing_kernels());          \
    insert(table, isa::sorting_kernels());           \
    insert(table, isa::resize_kernels());            \
    insert(table, isa::recurrent_kernels());         \
    insert(table, isa::attention_kernels());         \
    insert(table, isa::quantization_kernels());      \
    insert(table, isa::ranks_kernels());             \
  } while (false)

Table build(Isa isa) {
  Table table;
  insert(table, matrix_kernels());
  insert(table, convolution_kernels());
  insert(table, int8_kernels());
  switch (isa) {
    case Isa::baseline:
      TRIVET_INSERT_VECTOR_FAMILIES(table, baseline);
      break;
#if defined(__x86_64__)
    case Isa::avx2:
      TRIVET_INSERT_VECTOR_FAMILIES(table, avx2);
      break;
    case Isa::avx512:
      TRIVET_INSERT_VECTOR_FAMILIES(table, avx512);
      break;
#else
    case Isa::avx2:
    case Isa::avx512:
      return {};  // this program was not built for them
#endif
  }
  return table;
}

#undef TRIVET_INSERT_VECTOR_FAMILIES

const Table& table_of(Isa isa) {
  switch (isa) {
    case Isa::avx512: {
      static const Table table = build(Isa::avx512);
      return table;
    }
    case Isa::avx2: {
      static const Table table = build(Isa::avx2);
      return table;
    }
    case Isa::baseline:
      break;
  }
  static const Table table = build(Isa::baseline);
  return table;
}

}  // namespace

const KernelEntry* find(std::string_view op, Isa isa) {
  const Table& table = table_of(isa);
  const auto it = table.find(op);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace trivet::kernels::cpu
