#include "trivet/launcher/events.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <limits>

namespace trivet {
namespace {

Progress some_progress() {
  Progress p;
  p.phase = "train";
  p.epoch = 1;
  p.epochs = 12;
  p.step = 10;
  p.steps = 469;
  p.samples = 1280;
  p.total = 60000;
  p.rate = 4100.5;
  p.loss = 0.53;
  p.seconds = 3.25;
  p.left = 70.125;
  return p;
}

TEST(WorkerEvents, EveryKindComesBackAsItWas) {
  for (const WorkerEvent& event :
       {WorkerEvent(some_progress()), WorkerEvent(LineEvent{"epoch 1/12\t\"quoted\" é \n two"}),
        WorkerEvent(ErrorEvent{"job", "unknown key"}), WorkerEvent(DoneEvent{"accuracy 98 %"})}) {
    const std::string line = to_json_line(event);
    EXPECT_EQ(line.find('\n'), std::string::npos);
    const std::optional<WorkerEvent> back = parse_event(line);
    ASSERT_TRUE(back) << line;
    EXPECT_TRUE(*back == event) << line;
  }
}

TEST(WorkerEvents, ReadsTheDocumentedForm) {
  const std::optional<WorkerEvent> event =
      parse_event(R"({"event":"progress","phase":"train","epoch":1,"epochs":12,"step":10,"steps":469,"samples":1280,)"
                  R"("total":60000,"rate":4100.5,"loss":0.53,"seconds":3.25,"left":70.125})");
  ASSERT_TRUE(event);
  EXPECT_EQ(std::get<Progress>(*event), some_progress());
}

TEST(WorkerEvents, MissingKeysKeepTheirDefaultsAndUnknownOnesArePassedOver) {
  const std::optional<WorkerEvent> event = parse_event(R"({"event":"progress","step":3,"new":[1,2]})");
  ASSERT_TRUE(event);
  Progress expected;
  expected.step = 3;
  EXPECT_EQ(std::get<Progress>(*event), expected);
}

TEST(WorkerEvents, ALossThatIsNotFiniteIsLeftOut) {
  for (const double loss : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Progress p = some_progress();
    p.loss = loss;
    const std::optional<WorkerEvent> back = parse_event(to_json_line(p));
    ASSERT_TRUE(back);
    EXPECT_FALSE(std::get<Progress>(*back).loss);
  }
}

TEST(WorkerEvents, WhatIsNoEventGivesNone) {
  for (const char* line :
       {"", "hello", "{", "null", "[]", "7", R"({"event":7})", R"({"event":"unknown","text":"x"})",
        R"({"event":"line","text":7})", R"({"event":"progress","step":"ten"})", R"({"event":"progress","step":1.5})",
        R"({"event":"progress","rate":1e999})", R"({"text":"no event"})", "{\"event\":\"line\",\"text\":\"\xFF\"}"}) {
    EXPECT_FALSE(parse_event(line)) << line;
  }
  EXPECT_FALSE(parse_event(std::string(kLongestEvent, '[')));
  EXPECT_FALSE(parse_event(R"({"event":"line","text":")" + std::string(kLongestEvent, 'x') + "\"}"));
}

TEST(WorkerEvents, NoTextMakesALineThatIsTooLongToRead) {
  for (const char c : {'x', '\x01', '\xFF', '"'}) {
    const std::string text(1'000'000, c);
    Progress p;
    p.phase = text;
    for (const WorkerEvent& event : {WorkerEvent(p), WorkerEvent(LineEvent{text}), WorkerEvent(ErrorEvent{text, text}),
                                     WorkerEvent(DoneEvent{text})}) {
      const std::string line = to_json_line(event);
      EXPECT_LE(line.size(), kLongestEvent);
      EXPECT_TRUE(parse_event(line)) << static_cast<int>(c);
    }
  }
}

class EventWriterTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pipe2(ends_, O_CLOEXEC), 0); }
  void TearDown() override {
    unsetenv(kEventsVariable);
    close(ends_[0]);
    close(ends_[1]);
  }
  int ends_[2] = {-1, -1};
};

TEST_F(EventWriterTest, WritesOneLineToTheDescriptorThatTheEnvironmentNames) {
  setenv(kEventsVariable, std::to_string(ends_[1]).c_str(), 1);
  EventWriter writer;
  ASSERT_TRUE(writer.connected());
  writer.send(DoneEvent{"good"});
  char buffer[200];
  const ssize_t got = read(ends_[0], buffer, sizeof(buffer));
  ASSERT_GT(got, 0);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(got)), "{\"event\":\"done\",\"text\":\"good\"}\n");
}

TEST_F(EventWriterTest, IsSilentWithoutALauncher) {
  unsetenv(kEventsVariable);
  EXPECT_FALSE(EventWriter().connected());
  for (const char* value : {"", "x", "3x", "-1", "9999", "99999999999999999999"}) {
    setenv(kEventsVariable, value, 1);
    EXPECT_FALSE(EventWriter().connected()) << value;
  }
  EventWriter writer(-1);
  writer.send(DoneEvent{"nobody reads this"});
}

TEST_F(EventWriterTest, OutlivesTheLauncher) {
  struct sigaction before {};
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  EventWriter writer(ends_[1]);
  close(ends_[0]);
  ends_[0] = -1;
  writer.send(DoneEvent{"nobody reads this"});
  EXPECT_FALSE(writer.connected());
  writer.send(DoneEvent{"nor this"});
  sigaction(SIGPIPE, &before, nullptr);
}

}  // namespace
}  // namespace trivet
