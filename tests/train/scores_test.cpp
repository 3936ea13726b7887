#include "trivet/train/scores.h"

#include <gtest/gtest.h>

#include "trivet/base/error.h"
#include "trivet/data/random.h"

namespace trivet {
namespace {

// Scores of samples whose prediction is certain.
LabelScores certain(std::int64_t classes, const std::vector<std::int32_t>& truth,
                    const std::vector<std::int32_t>& predicted) {
  LabelScores scores(classes);
  std::vector<float> p(static_cast<std::size_t>(classes) * truth.size());
  for (std::size_t i = 0; i < truth.size(); ++i) {
    p[i * static_cast<std::size_t>(classes) + static_cast<std::size_t>(predicted[i])] = 1.0F;
  }
  scores.add(p, truth);
  return scores;
}

TEST(LabelScores, F1IsThatOfTheExampleInScikitLearn) {
  const LabelScores scores = certain(3, {0, 1, 2, 0, 1, 2}, {0, 2, 1, 0, 0, 1});
  EXPECT_NEAR(scores.macro_f1(), 0.8 / 3, 1e-12);
  EXPECT_NEAR(scores.weighted_f1(), 0.8 / 3, 1e-12);
  EXPECT_NEAR(scores.accuracy(), 2.0 / 6, 1e-12);
  const std::vector<ClassScore> classes = scores.per_class();
  EXPECT_NEAR(classes[0].precision, 2.0 / 3, 1e-12);
  EXPECT_NEAR(classes[0].recall, 1.0, 1e-12);
  EXPECT_NEAR(classes[0].f1, 0.8, 1e-12);
  EXPECT_EQ(classes[1].f1, 0.0);
  EXPECT_EQ(classes[1].support, 2);
}

TEST(LabelScores, CountsTruthInRowsAndPredictionsInColumns) {
  const LabelScores scores = certain(3, {0, 0, 0, 1, 2, 2}, {0, 1, 1, 1, 0, 2});
  EXPECT_EQ(scores.confusion(), (std::vector<std::int64_t>{1, 2, 0, 0, 1, 0, 1, 0, 1}));
}

TEST(LabelScores, ClassesThatDoNotOccurDoNotCountInTheMeans) {
  // F1 of class 0: 2 * 2 / (2 + 3) = 0.8; of class 3: 2 * 0 / (0 + 1) = 0, which occurs in truth alone.
  const LabelScores scores = certain(6, {0, 0, 3}, {0, 0, 0});
  EXPECT_NEAR(scores.macro_f1(), 0.4, 1e-12);
  EXPECT_NEAR(scores.weighted_f1(), 0.8 * 2 / 3, 1e-12);
}

TEST(LabelScores, WeighsF1BySupport) {
  // Class 0: 2 * 3 / (4 + 3) = 6 / 7, support 4; class 1: 2 * 1 / (1 + 2) = 2 / 3, support 1.
  const LabelScores scores = certain(2, {0, 0, 0, 0, 1}, {0, 0, 0, 1, 1});
  EXPECT_NEAR(scores.macro_f1(), (6.0 / 7 + 2.0 / 3) / 2, 1e-12);
  EXPECT_NEAR(scores.weighted_f1(), (4 * 6.0 / 7 + 2.0 / 3) / 5, 1e-12);
}

TEST(LabelScores, CalibrationErrorIsTheGapBetweenConfidenceAndAccuracy) {
  LabelScores scores(2);
  // Two at 0.9 of which one is right, one at 0.62 and one at 0.55, both right: three bins.
  scores.add(std::vector<float>{0.9F, 0.1F, 0.9F, 0.1F, 0.38F, 0.62F, 0.55F, 0.45F},
             std::vector<std::int32_t>{0, 1, 1, 0});
  EXPECT_NEAR(scores.calibration_error(), 0.5 * 0.4 + 0.25 * 0.38 + 0.25 * 0.45, 1e-6);
  std::int64_t count = 0;
  for (const CalibrationBin& bin : scores.calibration()) count += bin.count;
  EXPECT_EQ(count, 4);
  const CalibrationBin high = scores.calibration()[13];  // (13 / 15, 14 / 15]
  EXPECT_EQ(high.count, 2);
  EXPECT_NEAR(high.confidence, 0.9, 1e-6);
  EXPECT_NEAR(high.accuracy, 0.5, 1e-12);
}

TEST(LabelScores, APerfectPredictionIsInTheLastBinAndWithoutError) {
  const LabelScores scores = certain(4, {0, 1, 2, 3}, {0, 1, 2, 3});
  EXPECT_EQ(scores.calibration()[LabelScores::kBins - 1].count, 4);
  EXPECT_EQ(scores.calibration_error(), 0.0);
  EXPECT_EQ(scores.macro_f1(), 1.0);
}

TEST(AreaUnderCurve, IsThatOfTheExampleInScikitLearn) {
  EXPECT_NEAR(*area_under_curve(std::vector<float>{0.1F, 0.4F, 0.35F, 0.8F}, {false, false, true, true}), 0.75, 1e-12);
}

TEST(AreaUnderCurve, CountsTiesHalf) {
  EXPECT_NEAR(*area_under_curve(std::vector<float>{0.5F, 0.5F}, {false, true}), 0.5, 1e-12);
  // Pairs of a positive and a negative: 2 > 1, 2 = 2, 3 > 1, 3 > 2: 3.5 of 4.
  EXPECT_NEAR(*area_under_curve(std::vector<float>{2, 1, 2, 3}, {true, false, false, true}), 3.5 / 4, 1e-12);
}

TEST(AreaUnderCurve, IsTheShareOfPairsInRightOrder) {
  DrawSequence draws(5);
  std::vector<float> scores;
  std::vector<bool> positive;
  for (int i = 0; i < 200; ++i) {
    positive.push_back(draws.below(3) == 0);
    scores.push_back(static_cast<float>(draws.below(20) + (positive.back() ? 3 : 0)));
  }
  double right = 0, pairs = 0;
  for (std::size_t a = 0; a < scores.size(); ++a) {
    for (std::size_t b = 0; b < scores.size(); ++b) {
      if (!positive[a] || positive[b]) continue;
      ++pairs;
      right += scores[a] > scores[b] ? 1.0 : scores[a] == scores[b] ? 0.5 : 0.0;
    }
  }
  EXPECT_NEAR(*area_under_curve(scores, positive), right / pairs, 1e-12);
}

TEST(AreaUnderCurve, IsNotDefinedForOneClassOrNaN) {
  EXPECT_FALSE(area_under_curve(std::vector<float>{1, 2}, {true, true}).has_value());
  EXPECT_FALSE(area_under_curve(std::vector<float>{1, 2}, {false, false}).has_value());
  EXPECT_FALSE(area_under_curve({}, {}).has_value());
  EXPECT_FALSE(area_under_curve(std::vector<float>{1, std::nanf("")}, {true, false}).has_value());
}

TEST(LabelScores, AucOfTwoClassesIsThatOfTheSecondAndOfMoreTheMean) {
  LabelScores two(2, 4);
  two.add(std::vector<float>{0.9F, 0.1F, 0.6F, 0.4F}, std::vector<std::int32_t>{0, 0});
  two.add(std::vector<float>{0.65F, 0.35F, 0.2F, 0.8F}, std::vector<std::int32_t>{1, 1});
  EXPECT_NEAR(*two.auc(), 0.75, 1e-12);
  // Class 0 against the rest: 1; class 1: (0.5, 0.2 against 0.3, 0.1): 3 of 4; class 2 has no samples.
  LabelScores three(3, 4);
  three.add(std::vector<float>{0.7F, 0.3F, 0.0F, 0.9F, 0.1F, 0.0F, 0.4F, 0.5F, 0.1F, 0.5F, 0.2F, 0.3F},
            std::vector<std::int32_t>{0, 0, 1, 1});
  EXPECT_NEAR(*three.auc(), (1.0 + 0.75) / 2, 1e-12);
  EXPECT_FALSE(LabelScores(3).auc().has_value());
}

TEST(LabelScores, KeepsProbabilitiesOnlyWhileTheyFit) {
  EXPECT_EQ(LabelScores::kept_bytes(10, 1000), 1000U * (40 + 4 + 4 + 8 + 1));
  EXPECT_EQ(LabelScores::kept_bytes(1'000'000, 1'000'000), 0U);
  EXPECT_EQ(LabelScores::kept_bytes(INT64_MAX / 8, INT64_MAX), 0U);
}

TEST(LabelScores, ManyClassesHaveNoMatrix) {
  const LabelScores scores = certain(300, {0, 299}, {0, 298});
  EXPECT_TRUE(scores.confusion().empty());
  EXPECT_EQ(scores.per_class()[299].support, 1);
}

TEST(NumberScores, AreThoseOfTheExamplesInScikitLearn) {
  NumberScores one(1);
  one.add(std::vector<double>{2.5, 0.0, 2, 8}, std::vector<double>{3, -0.5, 2, 7});
  EXPECT_NEAR(*one.r2(), 0.9486081370449679, 1e-12);
  EXPECT_NEAR(one.mae(), 0.5, 1e-12);
  EXPECT_NEAR(one.rmse(), std::sqrt(0.375), 1e-12);
  NumberScores two(2);
  two.add(std::vector<double>{0, 2, -1, 2}, std::vector<double>{0.5, 1, -1, 1});
  two.add(std::vector<double>{8, -5}, std::vector<double>{7, -6});
  // 1 - 1.25 / 36.1667 and 1 - 3 / 32.6667.
  EXPECT_NEAR(*two.r2(), (0.9654377880184332 + 0.9081632653061225) / 2, 1e-12);
  EXPECT_NEAR(two.mae(), 0.75, 1e-12);
  EXPECT_NEAR(two.rmse(), (std::sqrt(1.25 / 3) + 1.0) / 2, 1e-12);
}

TEST(NumberScores, AConstantTruthIsExplainedOnlyWithoutError) {
  NumberScores exact(1), wrong(1), few(1);
  exact.add(std::vector<double>{4, 4}, std::vector<double>{4, 4});
  wrong.add(std::vector<double>{4, 5}, std::vector<double>{4, 4});
  few.add(std::vector<double>{4}, std::vector<double>{4});
  EXPECT_EQ(exact.r2(), 1.0);
  EXPECT_EQ(wrong.r2(), 0.0);
  EXPECT_FALSE(few.r2().has_value());
}

TEST(NumberScores, FarFromZeroTheSpreadIsNotLost) {
  NumberScores scores(1);
  scores.add(std::vector<double>{1e9, 1e9 + 1, 1e9 + 3}, std::vector<double>{1e9, 1e9 + 1, 1e9 + 2});
  EXPECT_NEAR(*scores.r2(), 0.5, 1e-9);  // 1 - 1 / 2
}

TEST(Scores, RefuseBatchesThatDoNotFit) {
  EXPECT_THROW(LabelScores(3).add(std::vector<float>(4), std::vector<std::int32_t>{0, 1}), Error);
  EXPECT_THROW(NumberScores(2).add(std::vector<double>(3), std::vector<double>(3)), Error);
  EXPECT_THROW(area_under_curve(std::vector<float>(3), {true}), Error);
}

}  // namespace
}  // namespace trivet
