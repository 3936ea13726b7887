// Measures of predictions. Each collects batches of them and gives its figures when all are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace trivet {

// Of one class: precision = right / predicted, recall = right / support, F1 = 2 right / (predicted + support). A
// quotient of 0 by 0 is 0.
struct ClassScore {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
  std::int64_t support = 0;    // samples of the class
  std::int64_t predicted = 0;  // samples that were taken for it
};

// Predictions whose confidence lies in one of the equal parts of (0, 1].
struct CalibrationBin {
  double confidence = 0;  // mean over the bin; 0 if it is empty
  double accuracy = 0;    // likewise
  std::int64_t count = 0;
};

class LabelScores {
 public:
  static constexpr int kBins = 15;
  static constexpr std::int64_t kLargestMatrix = 256;  // classes: beyond it there is no confusion matrix
  static constexpr std::size_t kLargestKept = std::size_t{256} << 20;

  // `keep`: the number of samples if all probabilities are to be kept, which the area under the curve needs; else 0.
  explicit LabelScores(std::int64_t classes, std::int64_t keep = 0);

  // `probabilities` (labels.size(), classes), labels in [0, classes). The first of the largest is predicted.
  void add(std::span<const float> probabilities, std::span<const std::int32_t> labels);

  std::int64_t samples() const { return samples_; }
  double accuracy() const;
  std::vector<ClassScore> per_class() const;
  // Means of F1 over the classes that occur, in truth or in predictions; the second one weighted by support.
  double macro_f1() const;
  double weighted_f1() const;
  // (classes, classes), row: truth, column: prediction. Empty for more than kLargestMatrix classes.
  const std::vector<std::int64_t>& confusion() const { return confusion_; }
  // Expected calibration error: sum over kBins equal bins of confidence of count / n * |accuracy - confidence| (Guo et
  // al., "On calibration of modern neural networks", 2017, equation 3).
  double calibration_error() const;
  std::vector<CalibrationBin> calibration() const;
  // Area under the receiver operating characteristic as the probability that a positive sample scores above a negative
  // one, ties counting one half (Hanley and McNeil, "The meaning and use of the area under a ROC curve", 1982). Two
  // classes: of class 1. More: the mean over the classes against the rest, of those with samples on both sides. None if
  // there is no such class, or probabilities were not kept.
  std::optional<double> auc() const;

  // What keeping takes, auc() included; 0 if it is more than kLargestKept: then it is not to be done.
  static std::size_t kept_bytes(std::int64_t classes, std::int64_t samples);

 private:
  const std::size_t classes_;
  const bool keep_;
  std::int64_t samples_ = 0;
  std::vector<std::int64_t> right_, support_, predicted_;  // (classes)
  std::vector<std::int64_t> confusion_;
  std::vector<CalibrationBin> bins_;  // sums until calibration() divides them
  std::vector<float> probabilities_;  // (samples, classes)
  std::vector<std::int32_t> labels_;
};

// The same definition for one score: `positive` (scores.size()) says which samples are positive.
std::optional<double> area_under_curve(std::span<const float> scores, const std::vector<bool>& positive);

// Errors of predicted numbers, k for each sample. With several, figures are means over them.
class NumberScores {
 public:
  explicit NumberScores(std::size_t numbers);

  // Both (samples, k), in the same unit.
  void add(std::span<const double> predicted, std::span<const double> truth);

  // 1 - squared errors / squared distances of the truth from its mean (coefficient of determination). For a constant
  // truth 1 if it is predicted without error, else 0. None for less than two samples.
  std::optional<double> r2() const;
  double mae() const;   // mean absolute error
  double rmse() const;  // root of the mean squared error

 private:
  struct Sums {
    double absolute = 0;
    double squares = 0;
    double mean = 0;    // of the truth
    double spread = 0;  // squared distances of the truth from its mean
  };
  std::vector<Sums> sums_;
  std::int64_t samples_ = 0;
};

}  // namespace trivet
