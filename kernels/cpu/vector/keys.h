// Sorting elements of any dtype with their indices.
#pragma once

#include <cstdint>

#include "kernels/math/small_float.h"
#include "trivet/kernels/view.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

#define TRIVET_INLINE [[gnu::always_inline]] inline

// --- keys: unsigned integers in the order of the elements, the largest for every NaN ---

struct Item32 {
  using Key = std::uint32_t;
  Key key;
  std::uint32_t index;
};
struct Item64 {
  using Key = std::uint64_t;
  Key key;
  std::uint64_t index;
};

// Of a float's bits: negative ones are reversed, and -0 becomes 0.
template <class Bits>
TRIVET_INLINE Bits float_key(Bits bits, Bits infinity) {
  constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  const Bits magnitude = bits & ~kSign;
  const Bits ordered = magnitude == 0 ? kSign : (bits & kSign) != 0 ? ~bits : bits | kSign;
  return magnitude > infinity ? ~Bits{0} : ordered;
}
TRIVET_INLINE std::uint32_t key_of(float x) {
  return float_key(__builtin_bit_cast(std::uint32_t, x), std::uint32_t{0x7f800000});
}
TRIVET_INLINE std::uint32_t key_of(BFloat16 x) { return key_of(to_f32(x)); }
TRIVET_INLINE std::uint32_t key_of(Float16 x) { return key_of(to_f32(x)); }
TRIVET_INLINE std::uint64_t key_of(double x) {
  return float_key(__builtin_bit_cast(std::uint64_t, x), std::uint64_t{0x7ff} << 52);
}
TRIVET_INLINE std::uint32_t key_of(std::int32_t x) { return static_cast<std::uint32_t>(x) ^ 0x80000000U; }
TRIVET_INLINE std::uint32_t key_of(std::int8_t x) { return key_of(std::int32_t{x}); }
TRIVET_INLINE std::uint32_t key_of(std::uint8_t x) { return x; }
TRIVET_INLINE std::uint64_t key_of(std::int64_t x) { return static_cast<std::uint64_t>(x) ^ (std::uint64_t{1} << 63); }

// Calls f(element) with a value of the type that holds one element of the dtype.
template <class F>
TRIVET_INLINE void with_element(DType type, const F& f) {
  switch (type) {
    case DType::f32:
      return f(float{});
    case DType::f64:
      return f(double{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::bf16:
      return f(BFloat16{});
    case DType::f16:
      return f(Float16{});
    case DType::i8:
      return f(std::int8_t{});
    default:
      return f(std::uint8_t{});
  }
}

TRIVET_INLINE std::size_t item_size(DType type) { return dtype_size(type) == 8 ? sizeof(Item64) : sizeof(Item32); }

// --- sorting items by key, equal keys by index ---

// Below this, insertion is faster than counting.
inline constexpr std::int64_t kFew = 48;

template <class Item>
TRIVET_INLINE bool before(const Item& a, const Item& b) {
  return a.key < b.key || (a.key == b.key && a.index < b.index);
}

template <class Item, class F>
TRIVET_INLINE void insertion_sort(Item* items, std::int64_t n, const F& first) {
  for (std::int64_t i = 1; i < n; ++i) {
    const Item item = items[i];
    std::int64_t j = i;
    for (; j > 0 && first(item, items[j - 1]); --j) items[j] = items[j - 1];
    items[j] = item;
  }
}

// Sorts by one number of each item, byte by byte from the lowest (radix sort): stable. `spare` has room for n items.
// Returns whichever of the two holds the result.
template <class Item, class F>
Item* radix_sort(Item* items, Item* spare, std::int64_t n, const F& number) {
  constexpr int kBytes = sizeof(number(Item{}));
  constexpr int kBuckets = 256;
  std::uint32_t counts[kBytes][kBuckets] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    for (int b = 0; b < kBytes; ++b) ++counts[b][(number(items[i]) >> (8 * b)) & 255];
  }
  for (int b = 0; b < kBytes; ++b) {
    std::uint32_t* const starts = counts[b];
    if (starts[(number(items[0]) >> (8 * b)) & 255] == n) continue;  // all equal in this byte
    std::uint32_t total = 0;
    for (int k = 0; k < kBuckets; ++k) {
      const std::uint32_t count = starts[k];
      starts[k] = total;
      total += count;
    }
    for (std::int64_t i = 0; i < n; ++i) spare[starts[(number(items[i]) >> (8 * b)) & 255]++] = items[i];
    Item* const swap = items;
    items = spare;
    spare = swap;
  }
  return items;
}

template <class Item>
TRIVET_INLINE Item* sort_by_index(Item* items, Item* spare, std::int64_t n) {
  if (n > kFew) return radix_sort(items, spare, n, [](const Item& item) { return item.index; });
  insertion_sort(items, n, [](const Item& a, const Item& b) { return a.index < b.index; });
  return items;
}

// Items come in the order of their indices.
template <class Item>
TRIVET_INLINE Item* sort_by_key(Item* items, Item* spare, std::int64_t n) {
  if (n > kFew) return radix_sort(items, spare, n, [](const Item& item) { return item.key; });
  insertion_sort(items, n, [](const Item& a, const Item& b) { return a.key < b.key; });
  return items;
}

#undef TRIVET_INLINE

}  // namespace trivet::kernels::cpu::TRIVET_ISA
