// The pages as text: what they hold, what they leave out, how large they are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "runtime/report/html.h"
#include "tests/report/run_folder.h"
#include "trivet/base/hash.h"
#include "trivet/report/report.h"

namespace trivet {
namespace {

using nlohmann::json;
using namespace testing;  // of this folder's helpers
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::size_t kLargestPage = 1'000'000;

std::string report_of(const ReportedRun& run, const TempDir& folder) {
  write_report(run, folder / "page.html");
  return slurp(folder / "page.html");
}

TEST(Html, EscapesWhatHasAMeaningInTextAndAttributes) {
  EXPECT_EQ(report::escape(R"(<a href="x">'&amp;')"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;amp;&#39;");
  EXPECT_EQ(report::escape("tab\tline\nLatin \u00e9, \u65e5\u672c, \U0001F600"),
            "tab\tline\nLatin \u00e9, \u65e5\u672c, \U0001F600");
}

TEST(Html, ReplacesControlCharactersAndWhatIsNoUtf8) {
  EXPECT_EQ(report::escape(std::string_view("a\0b\x1b[0m\x7f", 8)), "a\uFFFDb\uFFFD[0m\uFFFD");
  const char* const malformed[] = {"\x80",         "\xc0\x80",         "\xc3", "\xe0\x80\x80",
                                   "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"};
  for (const std::string text : malformed) {
    const std::string escaped = report::escape(text + "!");
    EXPECT_TRUE(escaped.ends_with("!"));
    for (std::string_view rest = std::string_view(escaped).substr(0, escaped.size() - 1); !rest.empty();
         rest.remove_prefix(3)) {
      EXPECT_TRUE(rest.starts_with("\uFFFD")) << escaped;
    }
  }
  EXPECT_EQ(report::shorten("abc\u00e9", 4), "abc...");
  EXPECT_EQ(report::shorten("abc\u00e9", 5), "abc\u00e9");
}

TEST(RunReport, HasEveryPartOfAWholeRun) {
  const TempDir folder;
  const std::string page =
      report_of({whole_run(folder, "r0001-clothes"), "r0001", "clothes", "train", "COMPLETED"}, folder);
  for (const char* id : {"curves", "evaluation", "samples", "plan", "environment", "job", "log"}) {
    EXPECT_THAT(page, HasSubstr("<section id=\"" + std::string(id) + "\">"));
  }
  EXPECT_THAT(page, AllOf(HasSubstr("<h1>clothes</h1>"), HasSubstr("COMPLETED"), HasSubstr("91.00 %"),
                          HasSubstr("aria-label=\"loss\""), HasSubstr("aria-label=\"accuracy\""),
                          HasSubstr("aria-label=\"learning rate\""), HasSubstr("max_pool"), HasSubstr("1.20 ms")));
  EXPECT_THAT(page, AllOf(HasSubstr("57.80 M"), HasSubstr("&emsp;parameters"), HasSubstr("host.cores"),
                          HasSubstr("epoch 1/10: train loss 0.5"), HasSubstr("Most frequent confusions")));
  EXPECT_EQ(page.find("worker.log"), std::string::npos);  // it is empty
}

TEST(RunReport, ReachesForNothingOutsideOfItself) {
  const TempDir folder;
  const std::string page = report_of({whole_run(folder, "r0001-clothes"), "r0001", "clothes"}, folder);
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  const std::regex outside(R"((src|href|action)\s*=\s*(?!["']?data:)|@import|url\()");
  std::smatch found;
  EXPECT_FALSE(std::regex_search(page, found, outside)) << found.str();
  EXPECT_EQ(page.find("http:"), std::string::npos);
  EXPECT_EQ(page.find("https:"), std::string::npos);
}

TEST(RunReport, ThePolicyHasTheDigestOfTheOnlyScript) {
  const TempDir folder;
  const std::string page = report_of({whole_run(folder, "r0001-clothes"), "r0001", "clothes"}, folder);
  const std::string opening = "<script>", closing = "</script>";
  const std::size_t begin = page.find(opening) + opening.size();
  const std::size_t end = page.find(closing);
  ASSERT_LT(begin, end);
  EXPECT_EQ(page.find("<script", begin), std::string::npos);
  const std::string hex = sha256_hex(page.substr(begin, end - begin));
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  EXPECT_THAT(page, HasSubstr("script-src 'sha256-" + report::base64(bytes) + "'"));
}

TEST(RunReport, ShowsNumbersAndColumns) {
  const TempDir folder;
  const std::string page =
      report_of({whole_run(folder, "r0001-houses", numbers_evaluation()), "r0001", "houses"}, folder);
  EXPECT_THAT(page, AllOf(HasSubstr("Predicted against true numbers"), HasSubstr("<dt>R\u00b2</dt><dd>0.87</dd>"),
                          HasSubstr("<td class=\"muted\">rooms</td><td>6.5</td>"), Not(HasSubstr("Confusion matrix"))));
  const std::regex dot("<title>truth ");
  EXPECT_EQ(std::distance(std::sregex_iterator(page.begin(), page.end(), dot), std::sregex_iterator()), 500);
}

TEST(RunReport, ShowsWhatThereIsOfARunThatFailed) {
  const TempDir folder;
  std::filesystem::create_directory(folder / "r0002-broken");
  folder.write("r0002-broken/job.yaml", "kind: train\n");
  folder.write("r0002-broken/worker.log", "trivet: no such <file>\n");
  const std::string page =
      report_of({folder / "r0002-broken", "r0002", "broken", "train", "FAILED", "exit code 5: no such <file>"}, folder);
  EXPECT_THAT(page, AllOf(HasSubstr("FAILED"), HasSubstr("exit code 5: no such &lt;file&gt;"), HasSubstr("worker.log"),
                          Not(HasSubstr("<section id=\"curves\">")), Not(HasSubstr("<section id=\"plan\">"))));
}

TEST(RunReport, ShowsARunThatIsUnderWay) {
  const TempDir folder;
  const auto run = whole_run(folder, "r0003-going");
  folder.write("r0003-going/metrics.jsonl", metrics_text(3, 47) + R"({"kind": "step", "st)");
  std::filesystem::remove(run / "evaluation.json");
  const std::string page = report_of({run, "r0003", "going", "train", "RUNNING"}, folder);
  EXPECT_THAT(page,
              AllOf(HasSubstr("RUNNING"), HasSubstr("<dt>epoch</dt><dd>3</dd>"), HasSubstr("aria-label=\"loss\"")));
}

TEST(RunReport, IsMadeFromTheFolderAlone) {
  const TempDir folder;
  const auto run = whole_run(folder, "r0004-alone");
  write_report(run);
  EXPECT_THAT(slurp(run / "report.html"), AllOf(HasSubstr("<h1>r0004-alone</h1>"), HasSubstr("aria-label=\"loss\"")));
  std::filesystem::create_directory(folder / "empty");
  write_report(folder / "empty");
  EXPECT_THAT(slurp(folder / "empty" / "report.html"), HasSubstr("<h1>empty</h1>"));
}

TEST(RunReport, StaysSmallWhateverTheRun) {
  const TempDir folder;
  std::vector<std::string> names;
  for (int i = 0; i < 256; ++i) names.push_back(fmt::format("class <{}> {}", i, std::string(1000, 'x')));
  json evaluation = labels_evaluation(names);
  for (json& shown : evaluation["shown"]) {
    shown["image"] = image_json(224, 224, 3);
    shown["reconstruction"] = shown["image"];
    for (int i = 0; i < 200; ++i) shown["columns"].push_back(json::array({"a column", std::string(1000, 'y')}));
  }
  const auto run = whole_run(folder, "r0005-large", evaluation);
  folder.write("r0005-large/metrics.jsonl", metrics_text(200, 100) + final_text(20000));
  std::string plan = plan_text();
  const std::size_t step = plan.find(" 0  conv1");
  for (int i = 0; i < 3000; ++i) plan.insert(step, plan.substr(step, plan.find('\n', step) + 1 - step));
  folder.write("r0005-large/plan.txt", plan);
  folder.write("r0005-large/log.txt", std::string(3'000'000, '<'));
  folder.write("r0005-large/job.yaml", std::string(300'000, 'k'));
  const std::string page = report_of({run, "r0005", "large", "train", "COMPLETED"}, folder);
  EXPECT_LT(page.size(), kLargestPage);
  EXPECT_THAT(page, HasSubstr("confusion matrix of 256 classes"));
}

TEST(RunReport, TakesFilesOfAnyContent) {
  const TempDir folder;
  const std::string bad[] = {"",
                             "null",
                             "[]",
                             "5",
                             "\"x\"",
                             "{",
                             std::string(100000, '['),
                             "\xff\xfe",
                             std::string(100, '\0'),
                             R"({"kind":"epoch","step":1,"train":{"loss":"x","accuracy":{}},"validation":[1]})",
                             R"({"kind":"step","step":1e300,"loss":1e308,"lr":-1e308})",
                             R"({"kind":"step","step":-5,"loss":0,"lr":0})",
                             R"({"confusion":[[1,2],[3]],"classes":5,"per_class":[1,{}],"calibration":[{}, 3]})",
                             R"({"confusion":[[-1]],"shown":[1,{"image":{"height":1e18,"width":1e18,"channels":1}}]})",
                             R"({"confusion":[[0]],"shown":{"a":1},"scatter":[[1],[1,"2"],[1e308,-1e308],[3,3]]})",
                             R"({"shown":[{"image":{"height":2,"width":2,"channels":1,"pixels":"AAA="}}]})"};
  const auto run = whole_run(folder, "r0006-odd");
  for (const char* file :
       {"metrics.jsonl", "evaluation.json", "environment.json", "plan.txt", "result.json", "job.yaml"}) {
    const std::string good = slurp(run / file);
    for (const std::string& content : bad) {
      SCOPED_TRACE(std::string(file) + ": " + content.substr(0, 80));
      folder.write(std::string("r0006-odd/") + file, content);
      const std::string page = report_of({run, "r0006", "odd"}, folder);
      EXPECT_TRUE(page.ends_with("</html>\n"));
      for (const char* number : {"\"nan", " nan", "Mnan", "\"inf", " inf ", "Minf", "-inf"}) {
        EXPECT_EQ(page.find(number), std::string::npos) << number;
      }
    }
    folder.write(std::string("r0006-odd/") + file, good);
  }
}

TEST(RunReport, RefusesAFolderThatIsNotThereAndWritesNothing) {
  const TempDir folder;
  expect_error(ErrorCode::io, {"r0009-gone"}, [&] { write_report(folder / "r0009-gone"); });
  expect_error(ErrorCode::io, {"no/page.html"}, [&] {
    write_report({whole_run(folder, "r0001-x"), "r0001"}, folder / "no" / "page.html");
  });
}

TEST(Comparison, NamesWhatDiffersAndTheBest) {
  const TempDir folder;
  std::vector<ReportedRun> runs;
  for (int i = 0; i < 3; ++i) {
    ReportedRun run{whole_run(folder, fmt::format("r{}", i), labels_evaluation(clothes()), 1 + i),
                    fmt::format("r{}", i), "x"};
    run.settings = {
        {"name", fmt::format("{}", i)}, {"train.batch", "32"}, {"train.optimizer.lr", fmt::format("0.{}", i)}};
    runs.push_back(run);
  }
  runs[2].settings.emplace_back("train.clip_norm", "1");
  folder.write("r1/environment.json", R"({"host": {"cores": 4}, "started": "later"})");
  const Comparison comparison = compare_runs(runs);
  ASSERT_EQ(comparison.settings.size(), 2u);
  EXPECT_EQ(comparison.settings[0].key, "train.optimizer.lr");
  EXPECT_EQ(comparison.settings[0].values, (std::vector<std::string>{"0.0", "0.1", "0.2"}));
  EXPECT_EQ(comparison.settings[1].values, (std::vector<std::string>{"-", "-", "1"}));
  const auto cores = std::find_if(comparison.environment.begin(), comparison.environment.end(),
                                  [](const auto& e) { return e.key == "host.cores"; });
  ASSERT_NE(cores, comparison.environment.end());
  EXPECT_EQ(cores->values, (std::vector<std::string>{"2", "4", "2"}));
  const auto result = [&](const std::string& key) {
    for (const auto& r : comparison.results) {
      if (r.key == key) return r;
    }
    return Comparison::Result{};
  };
  EXPECT_EQ(result("test.accuracy").values, (std::vector<std::optional<double>>{0.91, 0.92, 0.93}));
  EXPECT_EQ(result("test.accuracy").best, std::vector<std::size_t>{2});
  EXPECT_TRUE(result("test.loss").best.empty());    // all are alike
  EXPECT_EQ(result("test.auc").values.size(), 3u);  // from evaluation.json
  EXPECT_TRUE(result("steps").best.empty());        // no number of steps is better
}

TEST(Comparison, LowerIsBetterForLossesAndTiesAreAllBest) {
  const TempDir folder;
  std::vector<ReportedRun> runs;
  const double losses[] = {0.5, 0.25, 0.25};
  for (int i = 0; i < 3; ++i) {
    runs.push_back({whole_run(folder, fmt::format("r{}", i)), fmt::format("r{}", i)});
    folder.write(fmt::format("r{}/metrics.jsonl", i), json{{"kind", "final"}, {"test", {{"loss", losses[i]}}}}.dump());
  }
  const Comparison comparison = compare_runs(runs);
  ASSERT_FALSE(comparison.results.empty());
  const auto loss = std::find_if(comparison.results.begin(), comparison.results.end(),
                                 [](const auto& r) { return r.key == "test.loss"; });
  ASSERT_NE(loss, comparison.results.end());
  EXPECT_EQ(loss->best, (std::vector<std::size_t>{1, 2}));
}

TEST(Comparison, ThePageHasEveryRunAndItsCurves) {
  const TempDir folder;
  std::vector<ReportedRun> runs;
  for (int i = 0; i < 12; ++i) {
    runs.push_back({whole_run(folder, fmt::format("r{}", i), labels_evaluation(clothes()), 1 + 0.1 * i),
                    fmt::format("r{}", i), fmt::format("<i>name{}", i), "train", "COMPLETED"});
    runs.back().settings = {{"seed", fmt::format("{}", i)}};
  }
  write_comparison(runs, folder / "compare.html");
  const std::string page = slurp(folder / "compare.html");
  EXPECT_LT(page.size(), kLargestPage);
  for (int i = 0; i < 12; ++i) EXPECT_THAT(page, HasSubstr(fmt::format("&lt;i&gt;name{}", i)));
  EXPECT_EQ(page.find("<i>name"), std::string::npos);
  EXPECT_THAT(page, AllOf(HasSubstr("12 runs compared"), HasSubstr("Settings that differ"), HasSubstr("\u2605")));
}

}  // namespace
}  // namespace trivet
