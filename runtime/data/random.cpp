#include "trivet/data/random.h"

#include "kernels/math/philox.h"

namespace trivet {
namespace {

__extension__ using Wide = unsigned __int128;

}  // namespace

std::uint64_t data_key(std::uint64_t seed, DataDraw purpose, std::uint64_t epoch) {
  return math::mix_key(math::mix_key(seed, static_cast<std::uint64_t>(purpose)), epoch);
}

std::uint64_t DrawSequence::next() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const math::Philox4 draw = math::philox(key_, stream_, counter_++);
  spare_ = std::uint64_t{draw.v[3]} << 32 | draw.v[2];
  has_spare_ = true;
  return std::uint64_t{draw.v[1]} << 32 | draw.v[0];
}

std::uint64_t DrawSequence::below(std::uint64_t bound) {
  Wide product = Wide{next()} * bound;
  if (static_cast<std::uint64_t>(product) < bound) {
    // The low words below 2^64 mod bound would make some results likelier.
    const std::uint64_t threshold = (0 - bound) % bound;
    while (static_cast<std::uint64_t>(product) < threshold) product = Wide{next()} * bound;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

}  // namespace trivet
