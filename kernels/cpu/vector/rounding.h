// Numbers to integers of 8 bits.
#pragma once

#include <cstdint>

namespace trivet::kernels::cpu::TRIVET_ISA {

inline constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23

// The nearest integer, ties to even, for |x| < 2^22: the sum's last bit is 1.
[[gnu::always_inline]] inline float round_even(float x) { return (x + kRounding) - kRounding; }

// To the nearest (ties to even), moved by the zero point and clamped to the range of u8 or i8. NaN gives the lowest.
class Quantizer {
 public:
  [[gnu::always_inline]] Quantizer(bool is_unsigned, std::int32_t zero_point)
      : low_(static_cast<float>((is_unsigned ? 0 : -128) - zero_point)),
        high_(static_cast<float>((is_unsigned ? 255 : 127) - zero_point)),
        zero_point_(zero_point) {}

  // The bits of the result, the same for u8 and i8.
  [[gnu::always_inline]] std::uint8_t operator()(float x) const {
    const float above = x > low_ ? x : low_;
    const float clamped = above < high_ ? above : high_;
    return static_cast<std::uint8_t>(static_cast<std::int32_t>(round_even(clamped)) + zero_point_);
  }

  // The same for a vector of floats, with the result in the lowest byte of each word: the sum that rounds has the
  // integer in its last bits, below those of 1.5 * 2^23, whose lowest byte is 0.
  template <class Words, class Floats>
  [[gnu::always_inline]] Words words(Floats x) const {
    const Floats low = Floats{} + low_, high = Floats{} + high_;
    const Floats above = x > low ? x : low;
    const Floats clamped = above < high ? above : high;
    return __builtin_bit_cast(Words, clamped + kRounding) + static_cast<std::uint32_t>(zero_point_);
  }

 private:
  float low_;
  float high_;
  std::int32_t zero_point_;
};

}  // namespace trivet::kernels::cpu::TRIVET_ISA
