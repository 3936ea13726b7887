// Ops that depend on the order of elements along one dimension.
#include "kernels/cpu/families.h"
#include "kernels/cpu/vector/copy.h"
#include "kernels/cpu/vector/keys.h"
#include "kernels/cpu/vector/registers.h"
#include "kernels/cpu/vector/storage.h"
#include "trivet/kernels/attrs_sorting.h"

namespace trivet::kernels::cpu::TRIVET_ISA {
namespace {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// --- choosing the k first of n: a heap with the last one of them on top ---

template <class Item>
TRIVET_INLINE void sink(Item* heap, std::int64_t n, Item item) {
  std::int64_t at = 0;
  for (;;) {
    std::int64_t child = 2 * at + 1;
    if (child >= n) break;
    if (child + 1 < n && before(heap[child], heap[child + 1])) ++child;
    if (!before(item, heap[child])) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = item;
}

template <class Item>
TRIVET_INLINE void rise(Item* heap, std::int64_t at, Item item) {
  while (at > 0 && before(heap[(at - 1) / 2], item)) {
    heap[at] = heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  heap[at] = item;
}

// Whether top_k sorts the whole line rather than keeping a heap of k.
TRIVET_INLINE bool sorts_all(std::int64_t n, std::int64_t k) { return n <= kFew || k > n / 8; }

// --- top_k, sort ---

struct Choice {
  std::int64_t k = 0;
  bool descending = false;
  bool sorted = true;
};

// One line of n elements, `step` apart. Returns the k chosen items in their order.
template <class Item, class T>
TRIVET_INLINE Item* choose(const T* x, std::int64_t step, std::int64_t n, const Choice& choice, Item* items,
                           Item* spare) {
  using Key = typename Item::Key;
  const Key flip = choice.descending ? ~Key{0} : Key{0};
  const auto item = [=](std::int64_t i) {
    return Item{static_cast<Key>(key_of(x[i * step]) ^ flip), static_cast<Key>(i)};
  };
  const std::int64_t k = choice.k;
  if (k == 0) return items;
  if (sorts_all(n, k)) {
    for (std::int64_t i = 0; i < n; ++i) items[i] = item(i);
    Item* const all = sort_by_key(items, spare, n);
    return choice.sorted ? all : sort_by_index(all, all == items ? spare : items, k);
  }
  for (std::int64_t i = 0; i < k; ++i) rise(items, i, item(i));
  for (std::int64_t i = k; i < n; ++i) {
    const Item next = item(i);
    if (next.key < items[0].key) sink(items, k, next);  // of equal ones the first stays
  }
  Item* const chosen = sort_by_index(items, spare, k);
  return choice.sorted ? sort_by_key(chosen, chosen == items ? spare : items, k) : chosen;
}

template <class Item, class T>
void choose_lines(const KernelArgs& args, std::int64_t axis, const Choice& choice) {
  const Extents whole = extents_of(args.in[0], axis);
  const T* const x = args.in[0].as<const T>();
  T* const values = args.out[0].as<T>();
  std::int64_t* const indices = args.out[1].as<std::int64_t>();
  const std::int64_t n = whole.size;
  const std::int64_t room = sorts_all(n, choice.k) ? n : choice.k;
  Item* const scratch = static_cast<Item*>(args.workspace);
  const std::int64_t lines = whole.outer * whole.inner;
  const std::int64_t grain = n < 2048 ? 2048 / (n + 1) + 1 : 1;
  parallel_pieces_on_lanes(lines, grain, lines * n, args.threads, [=](std::int64_t begin, std::int64_t end, int lane) {
    Item* const items = scratch + 2 * room * lane;
    for (std::int64_t l = begin; l < end; ++l) {
      const std::int64_t first = l / whole.inner * n * whole.inner + l % whole.inner;
      const std::int64_t to = l / whole.inner * choice.k * whole.inner + l % whole.inner;
      const Item* const chosen = choose(x + first, whole.inner, n, choice, items, items + room);
      for (std::int64_t j = 0; j < choice.k; ++j) {
        const auto index = static_cast<std::int64_t>(chosen[j].index);
        values[to + j * whole.inner] = x[first + index * whole.inner];
        indices[to + j * whole.inner] = index;
      }
    }
  });
}

void run_choice(const KernelArgs& args, std::int64_t axis, const Choice& choice) {
  with_element(args.in[0].dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (sizeof(T) == 8) {
      choose_lines<Item64, T>(args, axis, choice);
    } else {
      choose_lines<Item32, T>(args, axis, choice);
    }
  });
}

void run_top_k(const KernelArgs& args) {
  const auto& attrs = args.attributes<TopKAttrs>();
  run_choice(args, attrs.axis, {attrs.k, attrs.largest, attrs.sorted});
}

void run_sort(const KernelArgs& args) {
  const auto& attrs = args.attributes<SortAttrs>();
  run_choice(args, attrs.axis, {extents_of(args.in[0], attrs.axis).size, attrs.descending, true});
}

std::size_t choice_workspace(const KernelSpec& spec, std::int64_t room) {
  return static_cast<std::size_t>(2 * room * spec.threads) * item_size(spec.in[0].dtype);
}

std::size_t top_k_workspace(const KernelSpec& spec, const Prepared*) {
  const auto& attrs = spec.attributes<TopKAttrs>();
  const std::int64_t n = extents_of(spec.in[0], attrs.axis).size;
  return choice_workspace(spec, sorts_all(n, attrs.k) ? n : attrs.k);
}

std::size_t sort_workspace(const KernelSpec& spec, const Prepared*) {
  return choice_workspace(spec, extents_of(spec.in[0], spec.attributes<SortAttrs>().axis).size);
}

// --- cumulative_sum: in float64, or in 64 bits that wrap around ---

TRIVET_INLINE double widen(float x) { return static_cast<double>(x); }
TRIVET_INLINE double widen(BFloat16 x) { return static_cast<double>(to_f32(x)); }
TRIVET_INLINE std::uint64_t widen(std::int32_t x) { return static_cast<std::uint64_t>(std::int64_t{x}); }
TRIVET_INLINE std::uint64_t widen(std::int64_t x) { return static_cast<std::uint64_t>(x); }
template <class T>
TRIVET_INLINE T narrow(double total) {
  return from_f32<T>(static_cast<float>(total));
}
template <class T>
TRIVET_INLINE T narrow(std::uint64_t total) {
  return static_cast<T>(total);
}

constexpr std::int64_t kSegment = 256;
constexpr std::int64_t kSegments = 4;

// n elements, `step` apart (1 or -1), after `total`. Returns the new total.
template <class T, class Total>
TRIVET_INLINE Total sum_line(const T* x, T* y, std::int64_t n, std::int64_t step, bool exclusive, Total total) {
  for (std::int64_t i = 0; i < n; ++i) {
    const Total next = total + widen(x[i * step]);
    y[i * step] = narrow<T>(exclusive ? total : next);
    total = next;
  }
  return total;
}

// One chain of additions would wait for itself, so four segments run side by side, each from the sum of those before.
template <std::int64_t step, class T, class Total>
TRIVET_INLINE Total sum_segments(const T* x, T* y, bool exclusive, Total total) {
  Total totals[kSegments];
  for (std::int64_t s = 0; s < kSegments; ++s) {
    totals[s] = total;
    Total sum = 0;
    const T* const from = x + s * kSegment * step;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < kSegment; ++i) sum += widen(from[i * step]);
    total += sum;
  }
  for (std::int64_t i = 0; i < kSegment; ++i) {
#pragma GCC unroll 4
    for (std::int64_t s = 0; s < kSegments; ++s) {
      const std::int64_t at = (s * kSegment + i) * step;
      const Total next = totals[s] + widen(x[at]);
      y[at] = narrow<T>(exclusive ? totals[s] : next);
      totals[s] = next;
    }
  }
  return total;
}

template <class T, std::int64_t step>
void sum_lines(const T* x, T* y, const Extents& whole, const CumulativeSumAttrs& attrs, int threads) {
  using Total = decltype(widen(T{}));
  const std::int64_t n = whole.size;
  parallel_pieces(whole.outer, n < 4096 ? 4096 / (n + 1) + 1 : 1, whole.outer * n, threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t l = begin; l < end; ++l) {
                      const std::int64_t first = l * n + (step < 0 ? n - 1 : 0);
                      Total total = 0;
                      std::int64_t i = 0;
                      for (; i + kSegments * kSegment <= n; i += kSegments * kSegment) {
                        const std::int64_t at = first + i * step;
                        total = sum_segments<step>(x + at, y + at, attrs.exclusive, total);
                      }
                      sum_line(x + first + i * step, y + first + i * step, n - i, step, attrs.exclusive, total);
                    }
                  });
}

template <class T>
void sum_columns(const T* x, T* y, const Extents& whole, const CumulativeSumAttrs& attrs, int threads) {
  constexpr std::int64_t kColumns = 512;
  using Total = decltype(widen(T{}));
  const std::int64_t across = (whole.inner + kColumns - 1) / kColumns;
  const std::int64_t n = whole.size;
  parallel_pieces(whole.outer * across, 1, whole.outer * n * whole.inner, threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t unit = begin; unit < end; ++unit) {
                      const std::int64_t column = unit % across * kColumns;
                      const std::int64_t first = unit / across * n * whole.inner + column;
                      const std::int64_t width = whole.inner - column < kColumns ? whole.inner - column : kColumns;
                      Total totals[kColumns];
                      for (std::int64_t j = 0; j < width; ++j) totals[j] = 0;
                      for (std::int64_t k = 0; k < n; ++k) {
                        const std::int64_t row = first + (attrs.reverse ? n - 1 - k : k) * whole.inner;
#pragma omp simd
                        for (std::int64_t j = 0; j < width; ++j) {
                          const Total next = totals[j] + widen(x[row + j]);
                          y[row + j] = narrow<T>(attrs.exclusive ? totals[j] : next);
                          totals[j] = next;
                        }
                        asm volatile("" ::: "memory");  // keeps the compiler from joining rows
                      }
                    }
                  });
}

void run_cumulative_sum(const KernelArgs& args) {
  const auto& attrs = args.attributes<CumulativeSumAttrs>();
  const Extents whole = extents_of(args.in[0], attrs.axis);
  const auto run = [&](auto element) {
    using T = decltype(element);
    const auto lines = attrs.reverse ? sum_lines<T, -1> : sum_lines<T, 1>;
    const auto sums = whole.inner == 1 ? lines : sum_columns<T>;
    sums(args.in[0].as<const T>(), args.out[0].as<T>(), whole, attrs, args.threads);
  };
  switch (args.in[0].dtype) {
    case DType::bf16:
      return run(BFloat16{});
    case DType::i32:
      return run(std::int32_t{});
    case DType::i64:
      return run(std::int64_t{});
    default:
      return run(float{});
  }
}

// --- argmax, argmin ---

struct Largest {
  TRIVET_INLINE Vector operator()(Vector a, Vector x) const { return ((x > a) | (x != x)) ? x : a; }
};
struct SmallestIndex {
  TRIVET_INLINE IntVector operator()(IntVector a, IntVector b) const { return b < a ? b : a; }
};

// What is looked for: the largest of sign * x, first or last.
struct Search {
  float sign = 1;
  bool last = false;
};

TRIVET_INLINE IntVector matches(Vector x, float best) {
  return (x == best) | ((x != x) & (IntVector{} - (best != best)));
}

// Where the largest elements of kLanes rows stand.
template <class T>
TRIVET_INLINE IntVector find_in_rows(const T* x, std::int64_t n, Search search) {
  Vector largest[kLanes];
  fold_rows(largest, Vector{} - __builtin_inff(), x, n,
            [=](int, Vector most, Vector v, std::int64_t) { return Largest{}(most, search.sign * v); });
  const Vector best = join_rows<kLanes>(largest, Largest{});
  const std::int32_t sign = search.last ? -1 : 1;  // the last place is the one with the smallest negative
  IntVector places[kLanes];
  fold_rows(places, IntVector{} + 0x7fffffff, x, n, [=](int r, IntVector place, Vector v, std::int64_t i) {
    const IntVector here = sign * (kIota + static_cast<std::int32_t>(i));
    return SmallestIndex{}(place, matches(search.sign * v, best[r]) ? here : place);
  });
  return sign * join_rows<kLanes>(places, SmallestIndex{});
}

// The place of the largest element in a long row.
template <class T>
TRIVET_INLINE std::int64_t find_in_row(const T* x, std::int64_t n, Search search) {
  Vector most[4];
  for (Vector& v : most) v = Vector{} - __builtin_inff();
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) most[k] = Largest{}(most[k], search.sign * load(x + i + k * kLanes));
  }
  float best = join_lanes(Largest{}(Largest{}(most[0], most[1]), Largest{}(most[2], most[3])), Largest{});
  for (; i < n; ++i) {
    const float v = search.sign * to_f32(x[i]);
    best = v > best || v != v ? v : best;
  }
  const auto is_best = [=](std::int64_t j) {
    const float v = search.sign * to_f32(x[j]);
    return static_cast<int>(v == best) | (static_cast<int>(v != v) & static_cast<int>(best != best));
  };
  // By whole blocks, from the end at which it may stand; the rest of the row lies behind them.
  constexpr std::int64_t kBlock = 64;
  const std::int64_t blocks = n / kBlock;
  const auto any = [=](std::int64_t b) {
    int found = 0;
#pragma omp simd reduction(| : found)
    for (std::int64_t j = b * kBlock; j < (b + 1) * kBlock; ++j) found |= is_best(j);
    return found != 0;
  };
  if (search.last) {
    std::int64_t at = n - 1;
    for (; at >= blocks * kBlock; --at) {
      if (is_best(at) != 0) return at;
    }
    std::int64_t b = blocks - 1;
    while (b > 0 && !any(b)) --b;
    for (at = (b + 1) * kBlock - 1; at > 0 && is_best(at) == 0;) --at;
    return at;
  }
  std::int64_t b = 0;
  while (b < blocks && !any(b)) ++b;
  std::int64_t at = b * kBlock;
  while (at < n - 1 && is_best(at) == 0) ++at;
  return at;
}

template <class T>
void arg_rows(const T* x, std::int64_t* y, std::int64_t rows, std::int64_t n, Search search, int threads) {
  const std::int64_t grain = n < 32768 ? 32768 / n / kLanes * kLanes + kLanes : 1;
  parallel_pieces(rows, grain, rows * n, threads, [=](std::int64_t begin, std::int64_t end) {
    if (n > kShortRow) {
      for (std::int64_t r = begin; r < end; ++r) y[r] = find_in_row(x + r * n, n, search);
      return;
    }
    for_each_group(x, rows, n, begin, end, [=](std::int64_t r, const T* group, std::int64_t count) {
      const IntVector places = find_in_rows(group, n, search);
      for (std::int64_t k = 0; k < count; ++k) y[r + k] = places[k];
    });
  });
}

// Columns of floats, and integers in any direction: one more row of them, `width` wide. Arithmetic on 0 and 1 keeps the
// loops free of branches.
template <class V, class T, class F>
TRIVET_INLINE void take_first(V* best, std::int32_t* place, const T* row, std::int64_t width, std::int32_t k,
                              const F& value) {
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) {
    const V v = value(row[j]);
    const V b = best[j];
    const int first_nan = static_cast<int>(v != v) & static_cast<int>(b == b);
    const bool better = (static_cast<int>(v > b) | first_nan) != 0;
    best[j] = better ? v : b;
    place[j] = better ? k : place[j];
  }
}
template <class V, class T, class F>
TRIVET_INLINE void take_last(V* best, std::int32_t* place, const T* row, std::int64_t width, std::int32_t k,
                             const F& value) {
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) {
    const V v = value(row[j]);
    const V b = best[j];
    const bool better = (static_cast<int>(v >= b) | static_cast<int>(v != v)) != 0;
    best[j] = better ? v : b;
    place[j] = better ? k : place[j];
  }
}

// `V` holds what is compared: value(x) of each element.
template <class V, class T, class F>
void arg_columns(const T* x, std::int64_t* y, const Extents& whole, bool last, int threads, const F& value) {
  constexpr std::int64_t kColumns = 1024;
  const std::int64_t across = (whole.inner + kColumns - 1) / kColumns;
  const std::int64_t n = whole.size;
  parallel_pieces(whole.outer * across, whole.inner < 64 ? 64 / whole.inner : 1, whole.outer * n * whole.inner, threads,
                  [=](std::int64_t begin, std::int64_t end) {
                    for (std::int64_t unit = begin; unit < end; ++unit) {
                      const std::int64_t column = unit % across * kColumns;
                      const T* const from = x + unit / across * n * whole.inner + column;
                      const std::int64_t width = whole.inner - column < kColumns ? whole.inner - column : kColumns;
                      V best[kColumns];
                      std::int32_t place[kColumns];
                      for (std::int64_t j = 0; j < width; ++j) {
                        best[j] = value(from[j]);
                        place[j] = 0;
                      }
                      for (std::int64_t k = 1; k < n; ++k) {
                        const T* const row = from + k * whole.inner;
                        if (last) {
                          take_last(best, place, row, width, static_cast<std::int32_t>(k), value);
                        } else {
                          take_first(best, place, row, width, static_cast<std::int32_t>(k), value);
                        }
                      }
                      for (std::int64_t j = 0; j < width; ++j) y[unit / across * whole.inner + column + j] = place[j];
                    }
                  });
}

template <class T>
void arg_floats(const KernelArgs& args, const Extents& whole, Search search) {
  const T* const x = args.in[0].as<const T>();
  std::int64_t* const y = args.out[0].as<std::int64_t>();
  if (whole.inner == 1) return arg_rows(x, y, whole.outer, whole.size, search, args.threads);
  arg_columns<float>(x, y, whole, search.last, args.threads, [=](T v) { return search.sign * to_f32(v); });
}

// Reversing all bits reverses the order of integers.
template <class T>
void arg_integers(const KernelArgs& args, const Extents& whole, Search search) {
  const T flip = search.sign < 0 ? static_cast<T>(~T{0}) : T{0};
  arg_columns<T>(args.in[0].as<const T>(), args.out[0].as<std::int64_t>(), whole, search.last, args.threads,
                 [=](T v) { return static_cast<T>(v ^ flip); });
}

template <int kSign>
void run_arg(const KernelArgs& args) {
  const auto& attrs = args.attributes<ArgmaxAttrs>();
  const Extents whole = extents_of(args.in[0], attrs.axis);
  if (whole.outer * whole.inner == 0) return;
  const Search search{static_cast<float>(kSign), attrs.select_last_index};
  switch (args.in[0].dtype) {
    case DType::bf16:
      return arg_floats<BFloat16>(args, whole, search);
    case DType::i32:
      return arg_integers<std::int32_t>(args, whole, search);
    case DType::i64:
      return arg_integers<std::int64_t>(args, whole, search);
    case DType::u8:
      return arg_integers<std::uint8_t>(args, whole, search);
    case DType::i8:
      return arg_integers<std::int8_t>(args, whole, search);
    default:
      return arg_floats<float>(args, whole, search);
  }
}

// --- what is supported ---

bool any_type(const KernelSpec&) { return true; }
bool summed_type(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return is_compute_type(type) || type == DType::i32 || type == DType::i64;
}

bool arg_type(const KernelSpec& spec) {
  const DType type = spec.in[0].dtype;
  return type != DType::f64 && type != DType::f16 && type != DType::boolean;
}

constexpr KernelEntry kTable[] = {
    {"argmax", arg_type, run_arg<1>},
    {"argmin", arg_type, run_arg<-1>},
    {"top_k", any_type, run_top_k, nullptr, top_k_workspace},
    {"sort", any_type, run_sort, nullptr, sort_workspace},
    {"cumulative_sum", summed_type, run_cumulative_sum},
};

#undef TRIVET_INLINE

}  // namespace

std::span<const KernelEntry> sorting_kernels() { return kTable; }

}  // namespace trivet::kernels::cpu::TRIVET_ISA
