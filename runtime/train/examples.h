// Samples worth looking at: the worst ones and the first ones. Private to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trivet {

struct Example {
  std::int64_t sample = 0;
  double truth = 0, predicted = 0;  // class, or first number; absent for a reconstruction
  double probability = 0;           // of the class predicted
  bool wrong = false;               // a label that is not the true one
  double badness = 0;               // how far off it is; 0: not at all
  std::vector<float> reconstruction;
};

class Examples {
 public:
  static constexpr std::size_t kShown = 24;

  // Keeps it if it is among the first or the worst. `reconstruction` is copied only then.
  void add(Example example, std::span<const float> reconstruction);

  // At most kShown: up to half of them the worst ones, then the first that are not wrong, then more of the worst.
  std::vector<Example> chosen() const;

 private:
  std::vector<Example> worst_;  // by badness, descending; then by sample
  std::vector<Example> first_;
};

}  // namespace trivet
