// The pages in a browser: headless Chromium (Debian's package chromium, or what TRIVET_CHROMIUM names). Without one
// these tests are skipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/report/run_folder.h"
#include "trivet/report/report.h"

namespace trivet {
namespace {

using nlohmann::json;
using namespace testing;  // of this folder's helpers
using ::testing::HasSubstr;
using ::testing::Not;

// Each would set window.hostile if the browser took it for more than text.
const std::vector<std::string> kHostile = {
    "<script>window.hostile = 1</script>", "\"><img src=x onerror=\"window.hostile = 1\">",
    "</script></style></pre><svg onload='window.hostile = 1'>", "' onpointerenter='window.hostile = 1",
    "&lt;b&gt; \\ ${hostile} {{}} \u2028"};

// Looks at the page as a person would, and writes what it found into the document.
constexpr const char* kProbe = R"js(
<script>
const found = {
  hostile: window.hostile === undefined ? 'none' : 'ran',
  scripts: document.scripts.length,
  handlers: document.querySelectorAll('[onerror], [onload], [onpointerenter]').length,
  overflow: document.documentElement.scrollWidth - window.innerWidth,
  images: [...document.images].map(i => i.naturalWidth),
  curves: [...document.querySelectorAll('.chart svg.linear')].map(
      s => [...s.querySelectorAll('.curve')].map(p => p.getTotalLength())),
  titles: [...document.querySelectorAll('.chart figcaption')].map(c => c.textContent),
  matrix: [...document.querySelectorAll('.matrix tbody tr')].map(r => [...r.querySelectorAll('td')].map(c => c.textContent)),
  classes: [...document.querySelectorAll('.matrix tbody th')].map(c => c.textContent),
};
const chart = document.querySelector('.chart');
const shown = name => getComputedStyle(chart.querySelector(name)).display !== 'none';
found.before = [shown('svg.linear'), shown('svg.logarithmic')];
chart.querySelector('.log').click();
found.after = [shown('svg.linear'), shown('svg.logarithmic')];
const svg = chart.querySelector('svg.logarithmic');
const box = svg.getBoundingClientRect();
const point = {clientX: box.left + box.width * 0.999, clientY: box.top + box.height / 2, bubbles: true};
svg.dispatchEvent(new PointerEvent('pointermove', point));
const tip = chart.querySelector('.tip');
found.tip = [...tip.children].map(e => e.textContent);
found.tip_shown = !tip.hidden;
svg.dispatchEvent(new PointerEvent('pointerleave', point));
found.tip_hidden = tip.hidden;
const out = document.createElement('pre');
out.id = 'probe';
out.textContent = 'probe:' + btoa(unescape(encodeURIComponent(JSON.stringify(found)))) + ':end';
document.body.append(out);
</script>
</body>)js";

class BrowserTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* named = std::getenv("TRIVET_CHROMIUM");
    browser_ = named != nullptr ? named : "chromium";
    if (std::system(fmt::format("command -v '{}' > /dev/null 2>&1", browser_).c_str()) != 0) {
      GTEST_SKIP() << "there is no " << browser_;
    }
  }

  struct Seen {
    std::string dom;
    std::vector<std::string> console;
  };

  // Opens the page and gives back its document, and every line that it wrote to the browser's console.
  Seen open(const std::filesystem::path& page, int width) const {
    const std::string command = fmt::format(
        "HOME='{0}' timeout 120 '{1}' --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
        "--user-data-dir='{0}/profile' --enable-logging=stderr --window-size={2},900 --dump-dom 'file://{3}' "
        "> '{0}/dom' 2> '{0}/errors'",
        folder_.path().string(), browser_, width, page.string());
    EXPECT_EQ(std::system(command.c_str()), 0) << slurp(folder_ / "errors");
    Seen seen{slurp(folder_ / "dom"), {}};
    std::istringstream lines(slurp(folder_ / "errors"));
    for (std::string line; std::getline(lines, line);) {
      if (line.find("CONSOLE") != std::string::npos) seen.console.push_back(line);
    }
    return seen;
  }

  // What the probe finds in a copy of the page whose policy lets it run; so the page's own escaping is all that keeps
  // other scripts from running.
  json probe(const std::filesystem::path& page, int width) const {
    std::string text = slurp(page);
    const std::size_t begin = text.find("<meta http-equiv");
    text.erase(begin, text.find('>', begin) + 1 - begin);
    text.replace(text.rfind("</body>"), std::string("</body>").size(), kProbe);
    const Seen seen = open(folder_.write("probed.html", text), width);
    EXPECT_TRUE(seen.console.empty()) << seen.console.front();
    const std::string opening = "probe:";
    const std::size_t from = seen.dom.rfind("<pre id=\"probe\">" + opening);
    const std::size_t to = seen.dom.rfind(":end</pre>");
    if (from == std::string::npos || to == std::string::npos) {
      ADD_FAILURE() << "the probe did not end";
      return {};
    }
    const std::size_t value = seen.dom.find(opening, from) + opening.size();
    return json::parse(report::from_base64(seen.dom.substr(value, to - value)).value());
  }

  static void expect_quiet(const Seen& seen) {
    EXPECT_TRUE(seen.console.empty()) << seen.console.front();
    EXPECT_THAT(seen.dom, HasSubstr("</html>"));
  }

  TempDir folder_;
  std::string browser_;
};

TEST_F(BrowserTest, ARunIsShownWithoutAWordOnTheConsole) {
  const ReportedRun run{whole_run(folder_, "r0001-clothes"), "r0001", "clothes", "train", "COMPLETED"};
  write_report(run, folder_ / "page.html");
  expect_quiet(open(folder_ / "page.html", 1200));
  const json found = probe(folder_ / "page.html", 390);  // as wide as a phone
  EXPECT_LE(found.at("overflow"), 0);
  EXPECT_EQ(found.at("titles").at(0), "loss");
  ASSERT_GE(found.at("curves").size(), 5u);
  EXPECT_EQ(found.at("curves").at(0).size(), 3u);  // batches, training, validation
  for (const json& chart : found.at("curves")) {
    for (const json& length : chart) EXPECT_GT(length, 100);
  }
  ASSERT_EQ(found.at("images").size(), 24u);
  for (const json& width : found.at("images")) EXPECT_EQ(width, 28);
  const json confusion = labels_evaluation(clothes()).at("confusion");
  ASSERT_EQ(found.at("matrix").size(), 10u);
  for (std::size_t truth = 0; truth < 10; ++truth) {
    for (std::size_t predicted = 0; predicted < 10; ++predicted) {
      EXPECT_EQ(found.at("matrix").at(truth).at(predicted), confusion.at(truth).at(predicted).dump());
    }
  }
  EXPECT_EQ(found.at("classes"), json(clothes()));
  EXPECT_EQ(found.at("before"), json({true, false}));
  EXPECT_EQ(found.at("after"), json({false, true}));
  EXPECT_TRUE(found.at("tip_shown"));
  EXPECT_TRUE(found.at("tip_hidden"));
  ASSERT_EQ(found.at("tip").size(), 4u) << found.at("tip");  // the step and three losses
  EXPECT_EQ(found.at("tip").at(0), "step 470");
  EXPECT_THAT(found.at("tip").at(3).get<std::string>(), HasSubstr("validation"));
}

TEST_F(BrowserTest, HostileNamesAreOnlyNames) {
  json evaluation = labels_evaluation(kHostile);
  evaluation["split"] = kHostile[1];
  for (json& shown : evaluation["shown"]) {
    shown["columns"] = json::array();
    for (const std::string& name : kHostile) shown["columns"].push_back(json::array({name, name}));
  }
  const auto directory = whole_run(folder_, "r0001-hostile", evaluation);
  std::string all;
  json environment;
  for (const std::string& name : kHostile) {
    all += name + "\n";
    environment[name] = name;
    environment["inner"][name] = name;
  }
  folder_.write("r0001-hostile/environment.json", environment.dump());
  for (const char* file : {"job.yaml", "log.txt", "worker.log"})
    folder_.write(std::string("r0001-hostile/") + file, all);
  std::string plan = plan_text();
  for (const std::string& name : kHostile)
    plan.insert(plan.find(" 0  conv1"), " 9  " + name + "  op  f32[1]  1  1 B  1.0 s\n");
  folder_.write("r0001-hostile/plan.txt", kHostile[0] + plan + all);
  std::string metrics = metrics_text(3, 20);
  for (const std::string& name : kHostile) {
    metrics += json{{"kind", "epoch"}, {"step", 61}, {"train", {{name, 1}}}, {"validation", {{name, 2}}}}.dump() + "\n";
  }
  folder_.write("r0001-hostile/metrics.jsonl", metrics);
  ReportedRun run{directory, kHostile[0], kHostile[1], kHostile[2], kHostile[3], kHostile[4], kHostile[0], kHostile[1]};
  for (const std::string& name : kHostile) run.settings.emplace_back(name, name);
  ReportedRun other = run;
  other.id = kHostile[2];
  for (auto& [key, value] : other.settings) value += "2";
  const std::vector<ReportedRun> runs = {run, other};
  write_report(run, folder_ / "run.html");
  write_comparison(runs, folder_ / "compare.html");
  int matrices = 0;
  for (const char* page : {"run.html", "compare.html"}) {
    SCOPED_TRACE(page);
    expect_quiet(open(folder_ / page, 1200));
    const json found = probe(folder_ / page, 1200);
    EXPECT_EQ(found.at("hostile"), "none");
    EXPECT_EQ(found.at("scripts"), 2);  // the page's own, and the probe
    EXPECT_EQ(found.at("handlers"), 0);
    EXPECT_THAT(found.at("titles"), ::testing::Contains(json(kHostile[0])));
    if (found.at("classes").empty()) continue;
    EXPECT_EQ(found.at("classes"), json(kHostile));
    ++matrices;
  }
  EXPECT_EQ(matrices, 1);  // that of the run
}

TEST_F(BrowserTest, AComparisonHasTheCurvesOfEveryRun) {
  std::vector<ReportedRun> runs;
  for (int i = 0; i < 3; ++i) {
    runs.push_back({whole_run(folder_, fmt::format("r{}", i), labels_evaluation(clothes()), 1 + i),
                    fmt::format("r{}", i), "clothes", "train", "COMPLETED"});
  }
  write_comparison(runs, folder_ / "compare.html");
  expect_quiet(open(folder_ / "compare.html", 1200));
  const json found = probe(folder_ / "compare.html", 390);
  EXPECT_LE(found.at("overflow"), 0);
  EXPECT_EQ(found.at("curves").at(0).size(), 6u);  // training and validation of three runs
  for (const json& length : found.at("curves").at(0)) EXPECT_GT(length, 100);
  ASSERT_EQ(found.at("tip").size(), 7u) << found.at("tip");
  EXPECT_THAT(found.at("tip").at(6).get<std::string>(), HasSubstr("r2 clothes, training"));
}

}  // namespace
}  // namespace trivet
