#include "kernels/cuda/plugin/convolution_pads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace trivet::kernels::cuda {
namespace {

TensorDesc tensor(const std::vector<std::int64_t>& sizes) {
  TensorDesc result;
  result.rank = static_cast<int>(sizes.size());
  std::copy(sizes.begin(), sizes.end(), result.shape);
  return result;
}

TEST(EvenPads, OfDifferentPadsTheSmallerOneStaysAndTheRestIsALargerInput) {
  const TensorDesc x = tensor({2, 5, 6, 3});
  ConvWindow window;
  window.pads = {4, {2, 0, 1, 3}};
  const EvenPads found = even_pads(x, window);
  EXPECT_TRUE(found.needed);
  EXPECT_THAT(std::vector(found.padded.shape, found.padded.shape + 4), ::testing::ElementsAre(2, 6, 9, 3));
  EXPECT_THAT(found.begin, ::testing::ElementsAre(1, 0, 0));
  EXPECT_THAT(std::vector(window.pads.v, window.pads.v + window.pads.n), ::testing::ElementsAre(1, 0, 1, 0));
  EXPECT_FALSE(even_pads(x, window).needed);
}

// cudaMemcpy3D() on the host's memory, by its definition for pitched memory.
void copy(const cudaMemcpy3DParms& p) {
  const auto row = [](const cudaPitchedPtr& t, const cudaPos& pos, std::size_t y, std::size_t z) {
    return static_cast<char*>(t.ptr) + ((pos.z + z) * t.ysize + pos.y + y) * t.pitch + pos.x;
  };
  ASSERT_LE(p.dstPos.x + p.extent.width, p.dstPtr.pitch);
  ASSERT_LE(p.srcPos.x + p.extent.width, p.srcPtr.pitch);
  for (std::size_t z = 0; z < p.extent.depth; ++z) {
    for (std::size_t y = 0; y < p.extent.height; ++y) {
      std::memcpy(row(p.dstPtr, p.dstPos, y, z), row(p.srcPtr, p.srcPos, y, z), p.extent.width);
    }
  }
}

// The element of `large` at which element `index` of x lies.
std::size_t place(const EvenPads& pads, const TensorDesc& x, std::int64_t index) {
  std::int64_t result = 0, step = 1;
  for (int axis = x.rank - 1; axis >= 0; --axis) {
    const bool spatial = axis > 0 && axis < x.rank - 1;
    const std::int64_t begin = spatial ? pads.begin[static_cast<std::size_t>(axis - 1)] : 0;
    result += (index % x.shape[axis] + begin) * step;
    step *= pads.padded.shape[axis];
    index /= x.shape[axis];
  }
  return static_cast<std::size_t>(result);
}

TEST(MiddleCopies, PutEachElementWhereItsPadsSayAndBringItBack) {
  struct Case {
    std::vector<std::int64_t> x;
    IntList pads;
  };
  for (const Case& c :
       {Case{{3, 5, 2}, {2, {2, 0}}}, Case{{3, 5, 2}, {2, {0, 3}}}, Case{{2, 4, 3, 2}, {4, {2, 0, 1, 3}}},
        Case{{3, 2, 5, 1}, {4, {1, 2, 2, 1}}}, Case{{2, 3, 4, 2, 3}, {6, {1, 0, 2, 0, 3, 1}}}}) {
    const TensorDesc x = tensor(c.x);
    ConvWindow window;
    window.pads = c.pads;
    const EvenPads pads = even_pads(x, window);
    ASSERT_TRUE(pads.needed);
    std::vector<float> small(static_cast<std::size_t>(x.elements()));
    std::iota(small.begin(), small.end(), 1.0F);
    std::vector<float> large(static_cast<std::size_t>(pads.padded.elements())), expected(large.size());
    for (std::size_t i = 0; i < small.size(); ++i) {
      expected[place(pads, x, static_cast<std::int64_t>(i))] = small[i];
    }
    for (const cudaMemcpy3DParms& p : middle_copies(pads, x, small.data(), large.data(), true)) copy(p);
    EXPECT_EQ(large, expected) << "rank " << x.rank;
    std::vector<float> back(small.size());
    for (const cudaMemcpy3DParms& p : middle_copies(pads, x, back.data(), large.data(), false)) copy(p);
    EXPECT_EQ(back, small) << "rank " << x.rank;
  }
}

}  // namespace
}  // namespace trivet::kernels::cuda
