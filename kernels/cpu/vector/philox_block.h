// The random bits of math::philox for many consecutive counters at once, in vector lanes.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "kernels/math/philox.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

inline constexpr int kPhiloxCounters = 16;
inline constexpr int kPhiloxWords = 4 * kPhiloxCounters;

namespace detail {

// A lane of 64 bits holds one word of one counter in its lower half. The product of two words then needs one
// instruction, which ignores the upper halves, so nothing there has to be cleared between the rounds.
#if defined(__AVX512F__)
using PhiloxLanes = std::uint64_t __attribute__((vector_size(64)));
inline constexpr PhiloxLanes kLaneNumbers = {0, 1, 2, 3, 4, 5, 6, 7};
inline constexpr PhiloxLanes kFirstHalves = {0, 8, 1, 9, 2, 10, 3, 11};
inline constexpr PhiloxLanes kSecondHalves = {4, 12, 5, 13, 6, 14, 7, 15};
[[gnu::always_inline]] inline PhiloxLanes multiply_words(PhiloxLanes a, PhiloxLanes b) {
  // With a mask of all lanes: gcc 12 warns of an uninitialized variable in the plain form's header.
  return (PhiloxLanes)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);
}
#elif defined(__AVX2__)
using PhiloxLanes = std::uint64_t __attribute__((vector_size(32)));
inline constexpr PhiloxLanes kLaneNumbers = {0, 1, 2, 3};
inline constexpr PhiloxLanes kFirstHalves = {0, 4, 1, 5};
inline constexpr PhiloxLanes kSecondHalves = {2, 6, 3, 7};
[[gnu::always_inline]] inline PhiloxLanes multiply_words(PhiloxLanes a, PhiloxLanes b) {
  return (PhiloxLanes)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
#else
using PhiloxLanes = std::uint64_t __attribute__((vector_size(16)));
inline constexpr PhiloxLanes kLaneNumbers = {0, 1};
inline constexpr PhiloxLanes kFirstHalves = {0, 2};
inline constexpr PhiloxLanes kSecondHalves = {1, 3};
[[gnu::always_inline]] inline PhiloxLanes multiply_words(PhiloxLanes a, PhiloxLanes b) {
#if defined(__x86_64__)
  return (PhiloxLanes)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}
#endif

inline constexpr int kPhiloxLanes = static_cast<int>(sizeof(PhiloxLanes) / sizeof(std::uint64_t));
inline constexpr int kPhiloxChains = 2;  // rounds that run side by side, since each waits for the one before

// low(j) and high(j) are the halves of the counters j to j + kPhiloxLanes - 1.
template <class Low, class High>
[[gnu::always_inline]] inline void philox_counters(std::uint64_t key, const Low& low, const High& high,
                                                   std::uint32_t* bits) {
  const PhiloxLanes zero = {};
  const PhiloxLanes factor0 = zero + 0xD2511F53u;
  const PhiloxLanes factor1 = zero + 0xCD9E8D57u;
  for (int begin = 0; begin < kPhiloxCounters; begin += kPhiloxChains * kPhiloxLanes) {
    PhiloxLanes c0[kPhiloxChains], c1[kPhiloxChains], c2[kPhiloxChains], c3[kPhiloxChains];
    for (int k = 0; k < kPhiloxChains; ++k) {
      c0[k] = low(begin + k * kPhiloxLanes);
      c1[k] = c0[k] >> 32;
      c2[k] = high(begin + k * kPhiloxLanes);
      c3[k] = c2[k] >> 32;
    }
    PhiloxLanes k0 = zero + key;
    PhiloxLanes k1 = zero + (key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      for (int k = 0; k < kPhiloxChains; ++k) {
        const PhiloxLanes p0 = multiply_words(c0[k], factor0);
        const PhiloxLanes p1 = multiply_words(c2[k], factor1);
        c0[k] = (p1 >> 32) ^ c1[k] ^ k0;
        c2[k] = (p0 >> 32) ^ c3[k] ^ k1;
        c1[k] = p1;
        c3[k] = p0;
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int k = 0; k < kPhiloxChains; ++k) {
      const PhiloxLanes words01 = (c0[k] & 0xffffffffu) | (c1[k] << 32);
      const PhiloxLanes words23 = (c2[k] & 0xffffffffu) | (c3[k] << 32);
      const PhiloxLanes halves[2] = {__builtin_shuffle(words01, words23, kFirstHalves),
                                     __builtin_shuffle(words01, words23, kSecondHalves)};
      __builtin_memcpy(bits + 4 * (begin + k * kPhiloxLanes), halves, sizeof halves);
    }
  }
}

}  // namespace detail

// bits[4 * j + i] = math::philox(key, high, first + j).v[i] for j < kPhiloxCounters.
[[gnu::always_inline]] inline void philox_block(std::uint64_t key, std::uint64_t high, std::uint64_t first,
                                                std::uint32_t* bits) {
  using detail::PhiloxLanes;
  detail::philox_counters(
      key, [=](int j) { return detail::kLaneNumbers + (first + static_cast<std::uint64_t>(j)); },
      [=](int) { return PhiloxLanes{} + high; }, bits);
}

// The same for any counters: math::philox(key, high[j], low[j]).
[[gnu::always_inline]] inline void philox_block(std::uint64_t key, const std::uint64_t* high, const std::uint64_t* low,
                                                std::uint32_t* bits) {
  const auto lanes = [](const std::uint64_t* from) {
    detail::PhiloxLanes v;
    __builtin_memcpy(&v, from, sizeof(v));
    return v;
  };
  detail::philox_counters(
      key, [=](int j) { return lanes(low + j); }, [=](int j) { return lanes(high + j); }, bits);
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
