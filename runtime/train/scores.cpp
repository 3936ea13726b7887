#include "trivet/train/scores.h"

#include "trivet/base/error.h"

namespace trivet {
namespace {

double share(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

LabelScores::LabelScores(std::int64_t classes, std::int64_t keep)
    : classes_(static_cast<std::size_t>(classes)),
      keep_(keep > 0),
      right_(classes_),
      support_(classes_),
      predicted_(classes_),
      confusion_(classes <= kLargestMatrix ? classes_ * classes_ : 0),
      bins_(kBins) {
  probabilities_.reserve(static_cast<std::size_t>(keep) * classes_);
  labels_.reserve(static_cast<std::size_t>(keep));
}

void LabelScores::add(std::span<const float> probabilities, std::span<const std::int32_t> labels) {
  if (probabilities.size() != labels.size() * classes_) {
    throw Error(ErrorCode::internal, fmt::format("{} probabilities for {} samples of {} classes", probabilities.size(),
                                                 labels.size(), classes_));
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto row = probabilities.subspan(i * classes_, classes_);
    const auto best = std::max_element(row.begin(), row.end());
    const auto predicted = static_cast<std::size_t>(best - row.begin());
    const auto truth = static_cast<std::size_t>(labels[i]);
    const bool right = predicted == truth;
    ++support_[truth];
    ++predicted_[predicted];
    if (right) ++right_[truth];
    if (!confusion_.empty()) ++confusion_[truth * classes_ + predicted];
    const auto confidence = static_cast<double>(*best);
    // Bin m holds (m / kBins, (m + 1) / kBins].
    const double place = std::ceil(confidence * kBins) - 1.0;
    CalibrationBin& bin = bins_[place > 0 ? static_cast<std::size_t>(std::min(place, kBins - 1.0)) : 0];
    bin.confidence += confidence;
    bin.accuracy += right ? 1.0 : 0.0;
    ++bin.count;
  }
  samples_ += static_cast<std::int64_t>(labels.size());
  if (!keep_) return;
  probabilities_.insert(probabilities_.end(), probabilities.begin(), probabilities.end());
  labels_.insert(labels_.end(), labels.begin(), labels.end());
}

double LabelScores::accuracy() const {
  return share(std::accumulate(right_.begin(), right_.end(), std::int64_t{0}), samples_);
}

std::vector<ClassScore> LabelScores::per_class() const {
  std::vector<ClassScore> scores;
  for (std::size_t c = 0; c < classes_; ++c) {
    scores.push_back({share(right_[c], predicted_[c]), share(right_[c], support_[c]),
                      share(2 * right_[c], predicted_[c] + support_[c]), support_[c], predicted_[c]});
  }
  return scores;
}

double LabelScores::macro_f1() const {
  double sum = 0;
  std::int64_t classes = 0;
  for (const ClassScore& score : per_class()) {
    if (score.support + score.predicted == 0) continue;
    sum += score.f1;
    ++classes;
  }
  return classes == 0 ? 0.0 : sum / static_cast<double>(classes);
}

double LabelScores::weighted_f1() const {
  double sum = 0;
  for (const ClassScore& score : per_class()) sum += score.f1 * static_cast<double>(score.support);
  return samples_ == 0 ? 0.0 : sum / static_cast<double>(samples_);
}

std::vector<CalibrationBin> LabelScores::calibration() const {
  std::vector<CalibrationBin> bins = bins_;
  for (CalibrationBin& bin : bins) {
    if (bin.count == 0) continue;
    bin.confidence /= static_cast<double>(bin.count);
    bin.accuracy /= static_cast<double>(bin.count);
  }
  return bins;
}

double LabelScores::calibration_error() const {
  double error = 0;
  for (const CalibrationBin& bin : calibration())
    error += share(bin.count, samples_) * std::abs(bin.accuracy - bin.confidence);
  return error;
}

std::optional<double> LabelScores::auc() const {
  if (!keep_) return std::nullopt;
  std::vector<float> scores(labels_.size());
  std::vector<bool> positive(labels_.size());
  double sum = 0;
  int classes = 0;
  for (std::size_t c = classes_ == 2 ? 1 : 0; c < classes_; ++c) {
    if (support_[c] == 0) continue;
    for (std::size_t i = 0; i < labels_.size(); ++i) {
      scores[i] = probabilities_[i * classes_ + c];
      positive[i] = static_cast<std::size_t>(labels_[i]) == c;
    }
    const std::optional<double> area = area_under_curve(scores, positive);
    if (!area) continue;
    sum += *area;
    ++classes;
  }
  return classes == 0 ? std::nullopt : std::optional(sum / classes);
}

std::size_t LabelScores::kept_bytes(std::int64_t classes, std::int64_t samples) {
  std::size_t bytes = 0;
  // Probabilities and label; then one class's scores, their order and sides.
  const std::size_t sample = static_cast<std::size_t>(classes) * sizeof(float) + sizeof(std::int32_t) + sizeof(float) +
                             sizeof(std::size_t) + 1;
  const bool overflow = __builtin_mul_overflow(static_cast<std::size_t>(samples), sample, &bytes);
  return overflow || bytes > kLargestKept ? 0 : bytes;
}

std::optional<double> area_under_curve(std::span<const float> scores, const std::vector<bool>& positive) {
  if (positive.size() != scores.size()) {
    throw Error(ErrorCode::internal, fmt::format("{} scores of {} samples", scores.size(), positive.size()));
  }
  // A NaN cannot be ordered.
  if (std::any_of(scores.begin(), scores.end(), [](float s) { return std::isnan(s); })) return std::nullopt;
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] < scores[b]; });
  double pairs = 0;  // in which the positive one scores higher
  double below = 0;  // negatives that score less than those under way
  double positives = 0;
  for (std::size_t i = 0; i < order.size();) {
    double tied_positives = 0, tied = 0;
    for (const float score = scores[order[i]]; i < order.size() && scores[order[i]] == score; ++i, ++tied) {
      if (positive[order[i]]) ++tied_positives;
    }
    pairs += tied_positives * (below + 0.5 * (tied - tied_positives));
    below += tied - tied_positives;
    positives += tied_positives;
  }
  if (positives == 0 || below == 0) return std::nullopt;
  return pairs / (positives * below);
}

NumberScores::NumberScores(std::size_t numbers) : sums_(numbers) {}

void NumberScores::add(std::span<const double> predicted, std::span<const double> truth) {
  const std::size_t k = sums_.size();
  if (predicted.size() != truth.size() || truth.size() % k != 0) {
    throw Error(ErrorCode::internal,
                fmt::format("{} predicted and {} true numbers, {} a sample", predicted.size(), truth.size(), k));
  }
  for (std::size_t i = 0; i < truth.size(); ++i) {
    if (i % k == 0) ++samples_;
    Sums& s = sums_[i % k];
    const double error = predicted[i] - truth[i];
    s.absolute += std::abs(error);
    s.squares += error * error;
    // Welford, "Note on a method for calculating corrected sums of squares and products", 1962.
    const double distance = truth[i] - s.mean;
    s.mean += distance / static_cast<double>(samples_);
    s.spread += distance * (truth[i] - s.mean);
  }
}

std::optional<double> NumberScores::r2() const {
  if (samples_ < 2) return std::nullopt;
  double sum = 0;
  for (const Sums& s : sums_) {
    if (s.spread > 0) {
      sum += 1.0 - s.squares / s.spread;
    } else {
      sum += s.squares == 0 ? 1.0 : 0.0;
    }
  }
  return sum / static_cast<double>(sums_.size());
}

double NumberScores::mae() const {
  double sum = 0;
  for (const Sums& s : sums_) sum += s.absolute;
  return samples_ == 0 ? 0.0 : sum / static_cast<double>(samples_) / static_cast<double>(sums_.size());
}

double NumberScores::rmse() const {
  double sum = 0;
  for (const Sums& s : sums_) sum += std::sqrt(s.squares / static_cast<double>(std::max<std::int64_t>(1, samples_)));
  return sum / static_cast<double>(sums_.size());
}

}  // namespace trivet
