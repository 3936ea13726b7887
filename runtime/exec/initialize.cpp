#include "trivet/exec/initialize.h"

#include <fmt/format.h>

#include <cstring>
#include <numbers>

#include "kernels/math/philox.h"
#include "trivet/base/error.h"
#include "trivet/exec/float_cast.h"

namespace trivet {
namespace {

// FNV-1a (Fowler, Noll, Vo), 64 bits.
std::uint64_t name_key(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

double unit(std::uint32_t bits) { return (static_cast<double>(bits) + 0.5) * 0x1p-32; }  // in (0, 1)

void fill_random(const Init& init, std::uint64_t key, std::span<float> out) {
  for (std::size_t i = 0; i < out.size(); i += 4) {
    const math::Philox4 r = math::philox(key, 0, i / 4);
    double draw[4];
    if (init.kind == Init::Kind::uniform) {
      for (int j = 0; j < 4; ++j) draw[j] = init.a * (2.0 * unit(r.v[j]) - 1.0);
    } else {
      for (int j = 0; j < 4; j += 2) {
        const double radius = std::sqrt(-2.0 * std::log(unit(r.v[j])));
        const double angle = 2.0 * std::numbers::pi * unit(r.v[j + 1]);
        draw[j] = init.a * radius * std::cos(angle);
        draw[j + 1] = init.a * radius * std::sin(angle);
      }
    }
    for (std::size_t j = 0; j < 4 && i + j < out.size(); ++j) out[i + j] = static_cast<float>(draw[j]);
  }
}

}  // namespace

void fill_initial(const Value& state, std::uint64_t seed, std::span<std::byte> bytes) {
  const Init& init = state.init;
  if (init.kind == Init::Kind::constant && init.a == 0.0) {
    std::memset(bytes.data(), 0, bytes.size());
    return;
  }
  if (state.type.dtype == DType::bf16) {  // as the f32 state of this name, rounded
    Value wide = state;
    wide.type.dtype = DType::f32;
    Tensor values(wide.type);
    fill_initial(wide, seed, values.data);
    const Tensor rounded = float_cast(values.type, values.data, DType::bf16);
    std::copy(rounded.data.begin(), rounded.data.end(), bytes.begin());
    return;
  }
  if (state.type.dtype != DType::f32) {
    throw Error(ErrorCode::graph,
                fmt::format("state '{}' is {}: only f32 and bf16 states start with anything but zeros", state.name,
                            to_string(state.type)));
  }
  const std::span<float> out(reinterpret_cast<float*>(bytes.data()), bytes.size() / sizeof(float));
  if (init.kind == Init::Kind::constant) {
    std::fill(out.begin(), out.end(), static_cast<float>(init.a));
  } else {
    fill_random(init, math::mix_key(seed, name_key(state.name)), out);
  }
}

}  // namespace trivet
