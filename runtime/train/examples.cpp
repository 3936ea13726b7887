#include "runtime/train/examples.h"

#include <algorithm>

namespace trivet {

void Examples::add(Example example, std::span<const float> reconstruction) {
  const auto worse = [](const Example& a, const Example& b) {
    return a.badness != b.badness ? a.badness > b.badness : a.sample < b.sample;
  };
  const bool is_first = !example.wrong && first_.size() < kShown + kShown / 2;
  const bool is_worst = example.badness > 0 && (worst_.size() < kShown || worse(example, worst_.back()));
  if (!is_first && !is_worst) return;
  example.reconstruction.assign(reconstruction.begin(), reconstruction.end());
  if (is_worst) {
    worst_.insert(std::upper_bound(worst_.begin(), worst_.end(), example, worse), example);
    if (worst_.size() > kShown) worst_.pop_back();
  }
  if (is_first) first_.push_back(std::move(example));
}

std::vector<Example> Examples::chosen() const {
  std::vector<Example> result(worst_.begin(),
                              worst_.begin() + static_cast<std::ptrdiff_t>(std::min(worst_.size(), kShown / 2)));
  const auto fill_from = [&](const std::vector<Example>& others) {
    for (const Example& e : others) {
      if (result.size() == kShown) return;
      const auto same = [&](const Example& known) { return known.sample == e.sample; };
      if (std::none_of(result.begin(), result.end(), same)) result.push_back(e);
    }
  };
  fill_from(first_);
  fill_from(worst_);
  return result;
}

}  // namespace trivet
