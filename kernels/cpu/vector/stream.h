// Moving data that is larger than the caches: reading ahead of its use, and writing past the caches.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "trivet/kernels/view.h"

namespace trivet::kernels::cpu::TRIVET_ISA {

// Less than this stays in a core's own cache, where asking for it again would only cost time.
inline constexpr std::size_t kLeastAhead = std::size_t{1} << 20;

// Has the `bytes` that lie `distance` bytes behind `p` read into the cache; they need not exist. The processor reads
// ahead by itself, but stops at the end of each page of 4 KiB, and follows few of the lines of a tensor.
[[gnu::always_inline]] inline void read_ahead(const void* p, std::int64_t distance, std::int64_t bytes) {
  const char* const first = static_cast<const char*>(p) + distance;
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(first + i, 0, 2);
}

// An output of this size and more is written past the caches: it would not fit them until the next op reads it, and a
// write through them first reads what it overwrites. A third of the traffic is saved.
inline constexpr std::size_t kLeastPast = std::size_t{32} << 20;

[[gnu::always_inline]] inline std::size_t bytes_of(const TensorDesc& t) {
  std::size_t bytes = dtype_size(t.dtype);
  for (int i = 0; i < t.rank; ++i) bytes *= static_cast<std::size_t>(t.shape[i]);
  return bytes;
}

// Whether to write `out` so. What was just read stands in a cache, so writing over it costs nothing.
[[gnu::always_inline]] inline bool writes_past_caches(const View& out, const void* in) {
  return out.data != in && bytes_of(out) >= kLeastPast;
}

// For tensors of rows of `bytes`: how far ahead the next row lies, if it is to be asked for, and 0 if not; and whether
// rows are written past the caches. Lines that two rows share had better not be.
[[gnu::always_inline]] inline std::int64_t next_row_ahead(const TensorDesc& in, std::int64_t bytes) {
  return bytes_of(in) >= kLeastAhead ? bytes : 0;
}
[[gnu::always_inline]] inline bool writes_rows_past(const View& out, const void* in, std::int64_t bytes) {
  return bytes % 64 == 0 && writes_past_caches(out, in);
}

// Elements that are computed into a buffer of the first cache before write_past sends them on.
inline constexpr std::int64_t kPastBlock = 256;

#if defined(__AVX512F__)
inline constexpr std::int64_t kPastBytes = 64;
[[gnu::always_inline]] inline void write_line(void* to, const void* from) {
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
}
#elif defined(__AVX2__)
inline constexpr std::int64_t kPastBytes = 32;
[[gnu::always_inline]] inline void write_line(void* to, const void* from) {
  _mm256_stream_si256(static_cast<__m256i*>(to), _mm256_loadu_si256(static_cast<const __m256i*>(from)));
}
#elif defined(__x86_64__)
inline constexpr std::int64_t kPastBytes = 16;
[[gnu::always_inline]] inline void write_line(void* to, const void* from) {
  _mm_stream_si128(static_cast<__m128i*>(to), _mm_loadu_si128(static_cast<const __m128i*>(from)));
}
#else
inline constexpr std::int64_t kPastBytes = 16;
[[gnu::always_inline]] inline void write_line(void* to, const void* from) { __builtin_memcpy(to, from, kPastBytes); }
#endif

// Copies n elements past the caches, but for the ends of lines that are not whole.
template <class T>
[[gnu::always_inline]] inline void write_past(T* to, const T* from, std::int64_t n) {
  char* const out = reinterpret_cast<char*>(to);
  const char* const in = reinterpret_cast<const char*>(from);
  const auto bytes = n * static_cast<std::int64_t>(sizeof(T));
  std::int64_t i = -static_cast<std::int64_t>(reinterpret_cast<std::size_t>(to)) & (kPastBytes - 1);
  i = i < bytes ? i : bytes;
  if (i > 0) __builtin_memcpy(out, in, static_cast<std::size_t>(i));
  for (; i + kPastBytes <= bytes; i += kPastBytes) write_line(out + i, in + i);
  if (i < bytes) __builtin_memcpy(out + i, in + i, static_cast<std::size_t>(bytes - i));
}

// Calls row(to, i, n) for the elements i to i + n of a piece, which it writes to `to`. If `past`, by way of a buffer
// and past the caches.
template <class Out, class Row>
[[gnu::always_inline]] inline void write_piece(Out* y, std::int64_t begin, std::int64_t end, bool past,
                                               const Row& row) {
  alignas(64) Out block[kPastBlock];
  const std::int64_t step = past ? kPastBlock : end - begin;
  for (std::int64_t i = begin; i < end; i += step) {
    const std::int64_t n = end - i < step ? end - i : step;
    row(past ? block : y + i, i, n);
    if (past) write_past(y + i, block, n);
  }
}

// To be called by a thread that has written past the caches, before others read what it wrote.
[[gnu::always_inline]] inline void finish_writes_past(bool past) {
#if defined(__x86_64__)
  if (past) _mm_sfence();
#endif
}

}  // namespace trivet::kernels::cpu::TRIVET_ISA
