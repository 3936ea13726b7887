#include "trivet/base/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <limits>

#include "trivet/base/table.h"

namespace trivet {
namespace {

const std::string kClear = "\r\x1b[K";

struct Screen {
  std::string text;
  double now = 100;
  std::size_t columns = 80;

  ProgressStyle style(bool terminal) {
    ProgressStyle s;
    s.write = [this](std::string_view t) { text += t; };
    s.clock = [this] { return now; };
    s.columns = [this] { return columns; };
    s.terminal = terminal;
    return s;
  }
  std::string take() { return std::exchange(text, {}); }
};

Progress half_way() {
  Progress p;
  p.phase = "train";
  p.epoch = 3;
  p.epochs = 12;
  p.step = 50;
  p.steps = 100;
  p.rate = 4100;
  p.loss = 0.53125;
  p.left = 65;
  return p;
}

TEST(ProgressBar, DrawsPhaseEpochBarPercentRateLossAndTimeLeft) {
  Screen screen;
  screen.columns = 100;
  ProgressBar bar(screen.style(true));
  bar.update(half_way());
  const std::string line = screen.take();
  EXPECT_TRUE(line.starts_with(kClear + "train 3/12 [###")) << line;
  EXPECT_NE(line.find("[##################..................]  50 %  4100 samples/s  loss 0.5312  left "),
            std::string::npos)
      << line;
}

TEST(ProgressBar, RedrawsAtMostTenTimesASecond) {
  Screen screen;
  ProgressBar bar(screen.style(true));
  bar.update(half_way());
  EXPECT_NE(screen.take(), "");
  screen.now += 0.09;
  bar.update(half_way());
  EXPECT_EQ(screen.take(), "");
  screen.now += 0.02;
  bar.update(half_way());
  EXPECT_NE(screen.take(), "");
}

TEST(ProgressBar, FitsEveryWidthOfTheTerminal) {
  for (const bool unicode : {false, true}) {
    for (std::size_t columns = 2; columns < 140; ++columns) {
      Screen screen;
      screen.columns = columns;
      ProgressStyle style = screen.style(true);
      style.unicode = unicode;
      ProgressBar bar(style);
      bar.update(half_way());
      std::string line = screen.take();
      ASSERT_TRUE(line.starts_with(kClear));
      line.erase(0, kClear.size());
      EXPECT_LT(display_width(line), columns) << line;
      EXPECT_EQ(line.find('\n'), std::string::npos);
    }
  }
}

TEST(ProgressBar, GivesUpTheRateBeforeTheLossBeforeTheTimeLeft) {
  Screen screen;
  ProgressBar bar(screen.style(true));
  bool seen_without_rate = false;
  bool seen_without_loss = false;
  for (std::size_t columns = 100; columns > 30; --columns) {
    screen.columns = columns;
    screen.now += 1;
    bar.update(half_way());
    const std::string line = screen.take();
    const bool rate = line.find("samples/s") != std::string::npos;
    const bool loss = line.find("loss") != std::string::npos;
    const bool left = line.find("left") != std::string::npos;
    EXPECT_TRUE(!rate || loss) << line;
    EXPECT_TRUE(!loss || left) << line;
    seen_without_rate = seen_without_rate || (!rate && loss);
    seen_without_loss = seen_without_loss || (!loss && left);
  }
  EXPECT_TRUE(seen_without_rate);
  EXPECT_TRUE(seen_without_loss);
}

TEST(ProgressBar, DrawsEighthsOfABlockInUnicode) {
  Screen screen;
  screen.columns = 27;
  ProgressStyle style = screen.style(true);
  style.unicode = true;
  ProgressBar bar(style);
  Progress p;
  p.phase = "infer";
  p.step = 1;
  p.steps = 16;
  bar.update(p);  // 12 columns inside the bar, 1/16 of them is 6 eighths
  EXPECT_EQ(screen.take(), kClear + "infer │▊           │   6 %");
}

TEST(ProgressBar, WritesPermanentLinesAboveTheBar) {
  Screen screen;
  ProgressBar bar(screen.style(true));
  bar.update(half_way());
  const std::string drawn = screen.take();
  bar.line("epoch 3 done");
  const std::string text = screen.take();
  EXPECT_EQ(text, fmt::format("{}epoch 3 done\n{}", kClear, drawn.substr(kClear.size())));
}

TEST(ProgressBar, ClearsItselfAtTheEnd) {
  Screen screen;
  {
    ProgressBar bar(screen.style(true));
    bar.update(half_way());
    screen.take();
  }
  EXPECT_EQ(screen.take(), kClear);
  { ProgressBar never_drawn(screen.style(true)); }
  EXPECT_EQ(screen.take(), "");
}

TEST(ProgressBar, WritesNoControlCharactersToAPipe) {
  Screen screen;
  ProgressStyle style = screen.style(false);
  style.unicode = true;
  style.color = true;
  {
    ProgressBar bar(style);
    for (int i = 0; i < 250; ++i) {
      bar.update(half_way());
      screen.now += 0.1;
    }
    bar.line("done\x1b[31m");
  }
  const std::string text = screen.take();
  for (const char c : text) EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << text;
  EXPECT_TRUE(text.ends_with("done [31m\n"));
}

TEST(ProgressBar, WritesAProgressLineToAPipeEveryTenSeconds) {
  Screen screen;
  ProgressBar bar(screen.style(false));
  bar.update(half_way());
  EXPECT_EQ(screen.take(), "");
  screen.now += 9.9;
  bar.update(half_way());
  EXPECT_EQ(screen.take(), "");
  screen.now += 0.2;
  bar.update(half_way());
  EXPECT_TRUE(screen.take().starts_with("train epoch 3/12 step 50/100  4100 samples/s  loss 0.5312  left "));
  screen.now += 9.9;
  bar.update(half_way());
  EXPECT_EQ(screen.take(), "");
}

TEST(ProgressBar, ShowsNoBarForAnUnknownNumberOfSteps) {
  Screen screen;
  ProgressBar bar(screen.style(true));
  Progress p;
  p.phase = "infer";
  p.rate = 12.25;
  bar.update(p);
  EXPECT_EQ(screen.take(), kClear + "infer  12.2 samples/s");
}

TEST(ProgressBar, SurvivesNumbersThatAreNotFinite) {
  Screen screen;
  ProgressBar bar(screen.style(true));
  Progress p = half_way();
  p.step = 500;  // more than there are
  p.rate = std::numeric_limits<double>::infinity();
  p.left = std::nan("");
  p.loss = std::nan("");
  bar.update(p);
  const std::string line = screen.take();
  EXPECT_NE(line.find("100 %"), std::string::npos) << line;
  EXPECT_NE(line.find("loss nan"), std::string::npos) << line;
  EXPECT_EQ(line.find("left"), std::string::npos) << line;
  EXPECT_EQ(line.find("samples/s"), std::string::npos) << line;
}

TEST(ProgressBar, KeepsControlCharactersOfAMessageFromTheTerminal) {
  Screen screen;
  ProgressBar bar(screen.style(true));
  bar.line("two\nlines\x1b[2J");
  EXPECT_EQ(screen.take(), "two\nlines [2J\n");
}

class ProgressStyleOf : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      const char* value = getenv(name);
      saved_[name] = value ? std::optional<std::string>(value) : std::nullopt;
      unsetenv(name);
    }
    file_ = std::tmpfile();
    ASSERT_NE(file_, nullptr);
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_) {
      if (value) {
        setenv(name.c_str(), value->c_str(), 1);
      } else {
        unsetenv(name.c_str());
      }
    }
    std::fclose(file_);
  }
  static constexpr const char* kNames[] = {"LC_ALL", "LC_CTYPE", "LANG", "COLUMNS", "TERM", "NO_COLOR"};
  std::map<std::string, std::optional<std::string>> saved_;
  std::FILE* file_ = nullptr;
};

TEST_F(ProgressStyleOf, AFileIsPlain) {
  setenv("TERM", "xterm", 1);
  const ProgressStyle style = progress_style(file_);
  EXPECT_FALSE(style.terminal);
  EXPECT_FALSE(style.color);
}

TEST_F(ProgressStyleOf, TheFirstLocaleVariableThatIsSetDecides) {
  EXPECT_FALSE(progress_style(file_).unicode);
  setenv("LANG", "en_US.UTF-8", 1);
  EXPECT_TRUE(progress_style(file_).unicode);
  setenv("LC_ALL", "C", 1);
  EXPECT_FALSE(progress_style(file_).unicode);
  setenv("LC_ALL", "C.utf8", 1);
  EXPECT_TRUE(progress_style(file_).unicode);
}

TEST_F(ProgressStyleOf, ColumnsComeFromTheEnvironmentElseAreEighty) {
  EXPECT_EQ(progress_style(file_).columns(), 80u);
  setenv("COLUMNS", "120", 1);
  EXPECT_EQ(progress_style(file_).columns(), 120u);
  setenv("COLUMNS", "-3", 1);
  EXPECT_EQ(progress_style(file_).columns(), 80u);
  setenv("COLUMNS", "12x", 1);
  EXPECT_EQ(progress_style(file_).columns(), 80u);
}

class ATerminal : public ProgressStyleOf {
 protected:
  void SetUp() override {
    ProgressStyleOf::SetUp();
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) GTEST_SKIP() << "no pseudo-terminals here";
    master_ = master;
    const char* name = ptsname(master);
    ASSERT_NE(name, nullptr);
    terminal_ = std::fopen(name, "r+");
    ASSERT_NE(terminal_, nullptr);
  }
  void TearDown() override {
    if (terminal_ != nullptr) std::fclose(terminal_);
    if (master_ >= 0) close(master_);
    ProgressStyleOf::TearDown();
  }
  int master_ = -1;
  std::FILE* terminal_ = nullptr;
};

TEST_F(ATerminal, IsDrawnOnUnlessItIsDumb) {
  setenv("TERM", "xterm", 1);
  EXPECT_TRUE(progress_style(terminal_).terminal);
  EXPECT_TRUE(progress_style(terminal_).color);
  setenv("NO_COLOR", "1", 1);
  EXPECT_TRUE(progress_style(terminal_).terminal);
  EXPECT_FALSE(progress_style(terminal_).color);
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(progress_style(terminal_).terminal);
}

TEST_F(ATerminal, TellsItsWidth) {
  setenv("COLUMNS", "120", 1);
  winsize size{};
  size.ws_col = 57;
  ASSERT_EQ(ioctl(master_, TIOCSWINSZ, &size), 0);
  EXPECT_EQ(progress_style(terminal_).columns(), 57u);
}

}  // namespace
}  // namespace trivet
