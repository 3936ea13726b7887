#include "trivet/formats/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace trivet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kColors = {"red", "green", "blue"};

ConfigDocument parse(std::string_view text) { return ConfigDocument::parse(text, "f.yaml"); }

// The error that `action` throws; a test fails where none comes.
template <typename Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::job) << error.what();
    EXPECT_TRUE(error.place().has_value()) << error.what();
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(ErrorCode::internal, SourcePlace{}, "none");
}

Error parse_error(const std::string& text) {
  return error_of([&] { parse(text); });
}

std::string repeat(std::string_view part, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += part;
  return text;
}

void expect_place(const Error& error, int line, int column) {
  EXPECT_EQ(error.place()->file, "f.yaml");
  EXPECT_EQ(error.place()->line, line) << error.what();
  EXPECT_EQ(error.place()->column, column) << error.what();
}

TEST(ConfigReader, ReadsEachTypeOfValue) {
  ConfigDocument document = parse(
      "count: 42\nrate: 1e-3\nwhole: 5\nsigned: +2\non: true\nword: hello\ncolor: green\nfile: a b/c.idx\n"
      "list: [3, 1, 2]\nquoted: \"5\"\nlike_number: 12e5\nsection: {inner: -7}\nentries:\n  - {a: 1}\n  - a: 2\n");
  const ConfigNode root = document.root();
  EXPECT_EQ(root.integer("count", 0, 0, 100), 42);
  EXPECT_EQ(root.number("rate", 0, NumberRange::closed(0, 1)), 1e-3);
  EXPECT_EQ(root.number("whole", 0, NumberRange::closed(0, 5)), 5.0);
  EXPECT_EQ(root.integer("signed", 0, 0, 100), 2);
  EXPECT_TRUE(root.flag("on", false));
  EXPECT_EQ(root.text("word", ""), "hello");
  EXPECT_EQ(root.choice("color", "red", kColors), "green");
  EXPECT_EQ(root.path("file"), "a b/c.idx");
  EXPECT_THAT(root.integers("list", {}, 0, 9, 3), ElementsAre(3, 1, 2));
  EXPECT_EQ(root.text("quoted", ""), "5");
  EXPECT_EQ(root.text("like_number", ""), "12e5");
  EXPECT_EQ(root.section("section").integer("inner", 0, -10, 10), -7);
  const std::vector<ConfigNode> entries = root.sections("entries", 2);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].required_integer("a", 0, 9), 1);
  EXPECT_EQ(entries[1].required_integer("a", 0, 9), 2);
  EXPECT_NO_THROW(document.finish());
}

TEST(ConfigReader, GivesDefaultsForAbsentKeysAndSections) {
  ConfigDocument document = parse("a: 1\n");
  const ConfigNode root = document.root();
  root.integer("a", 0, 0, 9);
  const ConfigNode section = root.section("s");
  EXPECT_FALSE(section.present());
  EXPECT_EQ(section.integer("x", 7, 0, 9), 7);
  EXPECT_EQ(section.number("y", 0.5, NumberRange::closed(0, 1)), 0.5);
  EXPECT_EQ(section.choice("c", "blue", kColors), "blue");
  EXPECT_THAT(section.integers("l", {4}, 0, 9, 3), ElementsAre(4));
  EXPECT_TRUE(section.sections("m", 3).empty());
  EXPECT_TRUE(section.path("p").empty());
  EXPECT_EQ(section.required_text("t"), "");  // the section is optional, so nothing is missing
  EXPECT_NO_THROW(document.finish());
}

// One value that is wrong for one reader, and what the message must say.
struct BadValue {
  const char* value;
  const char* message;
  const char* hint;
};

template <typename Read>
void expect_refused(const std::vector<BadValue>& cases, Read read) {
  for (const BadValue& bad : cases) {
    SCOPED_TRACE(bad.value);
    ConfigDocument document = parse(fmt::format("s:\n  k: {}\n", bad.value));
    read(document.root().section("s"));
    EXPECT_TRUE(document.has_problems());
    const Error error = error_of([&] { document.finish(); });
    const bool absent = error.message().ends_with("found nothing");
    expect_place(error, 2, absent ? 3 : 6);  // an absent value is placed at its key
    EXPECT_THAT(error.message(), HasSubstr("s.k"));
    EXPECT_THAT(error.message(), HasSubstr(bad.message));
    EXPECT_THAT(error.hint(), HasSubstr(bad.hint));
  }
}

TEST(ConfigReader, RefusesWhatIsNoIntegerInRange) {
  expect_refused({{"11", "expected an integer from 1 to 10, found 11", ""},
                  {"0", "found 0", ""},
                  {"5.0", "found 5.0", "write 5"},
                  {"1e1", "found 1e1", "write 10"},
                  {"1_0", "found the text '1_0'", "write 10"},
                  {"010", "found 010", "write 10"},
                  {"0x5", "found the text '0x5'", ""},
                  {"\"5\"", "found the text '5'", "remove the quotes"},
                  {"99999999999999999999", "found 99999999999999999999", ""},
                  {"-99999999999999999999", "found -9999", ""},
                  {"many", "found the text 'many'", ""},
                  {"true", "found true", ""},
                  {"", "found nothing", ""},
                  {"~", "found nothing", ""},
                  {"[5]", "found a list of 1 entry", ""},
                  {"{a: 5}", "found a section", ""}},
                 [](const ConfigNode& node) { EXPECT_EQ(node.integer("k", 3, 1, 10), 3); });
}

TEST(ConfigReader, RefusesWhatIsNoFiniteNumberInRange) {
  expect_refused({{"1", "expected a number from 0 to less than 1, found 1", ""},
                  {"-0.1", "found -0.1", ""},
                  {".inf", "found the text '.inf'", ""},
                  {"inf", "found the text 'inf'", ""},
                  {".nan", "found the text '.nan'", ""},
                  {"nan", "found the text 'nan'", ""},
                  {"1e999", "found 1e999", ""},
                  {"1e", "found the text '1e'", ""},
                  {".", "found the text '.'", ""},
                  {"0.5x", "found the text '0.5x'", ""},
                  {"0x1p-1", "found the text '0x1p-1'", ""},
                  {"'0.5'", "found the text '0.5'", "remove the quotes"},
                  {"yes", "found the text 'yes'", ""},
                  {"", "found nothing", ""},
                  {"[0.5]", "found a list", ""}},
                 [](const ConfigNode& node) { EXPECT_EQ(node.number("k", 0.25, NumberRange::below(0, 1)), 0.25); });
  expect_refused({{"0", "expected a number above 0 and at most 1, found 0", ""}},
                 [](const ConfigNode& node) { EXPECT_EQ(node.number("k", 0.25, NumberRange::above(0, 1)), 0.25); });
}

TEST(ConfigReader, RefusesWhatIsNoFlag) {
  expect_refused({{"yes", "expected true or false, found the text 'yes'", ""},
                  {"on", "found the text 'on'", ""},
                  {"True", "found the text 'True'", ""},
                  {"1", "found 1", ""},
                  {"'true'", "found the text 'true'", "remove the quotes"},
                  {"", "found nothing", ""},
                  {"[true]", "found a list", ""}},
                 [](const ConfigNode& node) { EXPECT_TRUE(node.flag("k", true)); });
}

TEST(ConfigReader, RefusesWhatIsNoTextNoChoiceNoList) {
  expect_refused({{"", "found nothing", ""},
                  {"null", "found nothing", ""},
                  {"''", "not empty", ""},
                  {"[a]", "found a list", ""},
                  {"{a: b}", "found a section", ""}},
                 [](const ConfigNode& node) { EXPECT_EQ(node.text("k", "d"), "d"); });
  expect_refused({{"gren", "expected one of red, green, blue, found the text 'gren'", "did you mean 'green'?"},
                  {"Red", "found the text 'Red'", "did you mean 'red'?"},
                  {"7", "found 7", ""},
                  {"[red]", "found a list", ""}},
                 [](const ConfigNode& node) { EXPECT_EQ(node.choice("k", "red", kColors), ""); });
  expect_refused({{"5", "expected a list of 1 to 2 integers, found 5", "write [5]"},
                  {"[]", "found a list of 0 entries", ""},
                  {"[1, 2, 3]", "found a list of 3 entries", ""},
                  {"{a: 1}", "found a section", ""}},
                 [](const ConfigNode& node) { EXPECT_THAT(node.integers("k", {8}, 0, 9, 2), ElementsAre(8)); });
  expect_refused(
      {{"5", "expected a section, found 5", ""}, {"", "found nothing", "indent its keys"}, {"[1]", "found a list", ""}},
      [](const ConfigNode& node) { EXPECT_FALSE(node.section("k").present()); });
  expect_refused(
      {{"{a: 1}", "expected a list of at most 2 sections, found a section", ""}, {"x", "found the text 'x'", ""}},
      [](const ConfigNode& node) { EXPECT_TRUE(node.sections("k", 2).empty()); });
}

TEST(ConfigReader, NamesTheEntryOfAListThatIsWrong) {
  ConfigDocument document = parse("sizes: [1, 2.5, 3]\nparts: [{a: 1}, 4]\n");
  document.root().integers("sizes", {}, 0, 9, 9);
  for (const ConfigNode& part : document.root().sections("parts", 9)) part.integer("a", 0, 0, 9);
  const Error error = error_of([&] { document.finish(); });
  expect_place(error, 1, 12);
  EXPECT_THAT(error.what(), HasSubstr("sizes[1]: expected an integer from 0 to 9, found 2.5"));
  EXPECT_THAT(error.what(), HasSubstr("f.yaml:2:17: parts[1]: expected a section, found 4"));
}

TEST(ConfigReader, ReportsUnknownKeysWithTheNearestNameAtEachLevel) {
  ConfigDocument document = parse("epoch: 1\ns: {batchsize: 2, t: {colour: red}}\nzzzzzz: 1\n");
  const ConfigNode root = document.root();
  root.integer("epochs", 1, 1, 9);
  root.section("s").integer("batch_size", 1, 1, 9);
  root.section("s").section("t").choice("color", "red", kColors);
  const Error error = error_of([&] { document.finish(); });
  expect_place(error, 1, 1);
  EXPECT_THAT(error.message(),
              HasSubstr("unknown key 'epoch' in the file\n  hint: did you mean 'epochs'? Keys of the file: epochs, s"));
  EXPECT_THAT(error.message(),
              HasSubstr("f.yaml:2:5: unknown key 'batchsize' in 's'\n  hint: did you mean 'batch_size'?"));
  EXPECT_THAT(error.message(), HasSubstr("f.yaml:2:23: unknown key 'colour' in 's.t'\n  hint: did you mean 'color'?"));
  EXPECT_THAT(error.message(), HasSubstr("f.yaml:3:1: unknown key 'zzzzzz' in the file\n  hint: Keys of"));
}

TEST(ConfigReader, ReportsMissingKeysAtTheirSectionOnce) {
  ConfigDocument document = parse("a: 1\ns:\n  x: 1\n");
  const ConfigNode root = document.root();
  root.integer("a", 0, 0, 9);
  root.section("s").integer("x", 0, 0, 9);
  root.section("s").required_text("y");
  root.required_section("t").required_text("z");
  const Error error = error_of([&] { document.finish(); });
  expect_place(error, 1, 1);
  EXPECT_THAT(error.message(), HasSubstr("missing section 't'"));
  EXPECT_THAT(error.message(), HasSubstr("f.yaml:3:3: missing key 's.y'"));
  EXPECT_THAT(error.message(), Not(HasSubstr("t.z")));
}

TEST(ConfigReader, ShowsTwentyProblemsInTheOrderOfTheFileAndCountsTheRest) {
  std::string text;
  for (int i = 0; i < 25; ++i) text += fmt::format("key{}: {}\n", i, i);
  ConfigDocument document = parse(text);
  document.root();
  const Error error = error_of([&] { document.finish(); });
  expect_place(error, 1, 1);
  EXPECT_THAT(error.message(), HasSubstr("f.yaml:20:1: unknown key 'key19'"));
  EXPECT_THAT(error.message(), Not(HasSubstr("key20")));
  EXPECT_THAT(error.message(), HasSubstr("and 5 more problems"));
}

TEST(ConfigReader, RefusedKeysAreKnownButOutOfPlace) {
  ConfigDocument document = parse("a: 1\n");
  document.root().refuse("a", "has no effect here", "remove it");
  document.root().refuse("b", "has no effect here", "remove it");
  const Error error = error_of([&] { document.finish(); });
  EXPECT_EQ(error.message(), "a: has no effect here");
  EXPECT_EQ(error.hint(), "remove it");
  EXPECT_THAT(document.asked_keys(), ElementsAre("a", "b"));
}

TEST(ConfigReader, RecordsTheKeysAskedForWithoutIndices) {
  ConfigDocument document = parse("l: [{a: 1}, {a: 2}]\n");
  for (const ConfigNode& node : document.root().sections("l", 9)) node.integer("a", 0, 0, 9);
  document.root().section("s").flag("f", false);
  EXPECT_THAT(document.asked_keys(), ElementsAre("l", "l[].a", "s", "s.f"));
}

TEST(ConfigReader, RefusesDuplicateKeysNamingTheFirst) {
  ConfigDocument document = parse("a: 1\ns: {b: 1, b: 2}\na: 2\n");
  document.root().integer("a", 0, 0, 9);
  document.root().section("s").integer("b", 0, 0, 9);
  const Error error = error_of([&] { document.finish(); });
  expect_place(error, 2, 11);
  EXPECT_THAT(error.message(), HasSubstr("the key 'b' is there twice; the first is in line 2"));
  EXPECT_THAT(error.message(), HasSubstr("f.yaml:3:1: the key 'a' is there twice; the first is in line 1"));
}

TEST(ConfigReader, RefusesWhatIsNoMappingAtTheTop) {
  EXPECT_THAT(parse_error("").what(), HasSubstr("f.yaml:1:1: the file is empty"));
  EXPECT_THAT(parse_error("# only this\n\n").what(), HasSubstr("the file is empty"));
  EXPECT_THAT(parse_error("---\n").what(), HasSubstr("the file is empty"));
  EXPECT_THAT(parse_error("- a\n- b\n").what(), HasSubstr("found a list of 2 entries"));
  EXPECT_THAT(parse_error("just text\n").what(), HasSubstr("found the text 'just text'"));
}

TEST(ConfigReader, RefusesBrokenYamlAtItsPlace) {
  expect_place(parse_error("a: 1\nb: [1, 2\nc: 3\n"), 3, 2);
  expect_place(parse_error("a: 1\n b: 2\n"), 2, 3);
  expect_place(parse_error("s:\n  a: 1\n b: 2\n"), 3, 2);
  expect_place(parse_error("a: {b: 1}}\n"), 1, 10);
  expect_place(parse_error("a: \"x\" y\n"), 1, 8);
  expect_place(parse_error("{[a]: 1}"), 1, 2);
  expect_place(parse_error("{a: 1,, b: 2}"), 1, 7);
  EXPECT_THAT(parse_error("s:\n\ta: 1\n").what(), HasSubstr("f.yaml:2:1: a tab in the indentation"));
  EXPECT_THAT(parse_error("s:\n  \ta: 1\n").what(), HasSubstr("f.yaml:2:3: a tab in the indentation"));
}

TEST(ConfigReader, RefusesAQuoteThatTheEndOfTheFileCutsOff) {
  for (const char* text :
       {"a: 1\nb: \"x\n", "a: 1\nb: \"x", "a: 1\nb: 'x\n", "a: 1\nb: 'it''s\n", "a: 1\nb: \"x\\\"\n"}) {
    SCOPED_TRACE(text);
    const Error error = parse_error(text);
    EXPECT_EQ(error.place()->line, 2);
    EXPECT_THAT(error.what(), HasSubstr("quote"));
  }
  EXPECT_EQ(parse("b: 'it''s'").root().text("b", ""), "it's");
  EXPECT_EQ(parse("b: \"say \\\"x\\\"\"").root().text("b", ""), "say \"x\"");
}

TEST(ConfigReader, RefusesASecondDocument) {
  const Error error = parse_error("a: 1\n---\na: 2\n");
  EXPECT_EQ(error.place()->line, 2);
  EXPECT_THAT(error.message(), HasSubstr("text after the end of the document"));
}

TEST(ConfigReader, RefusesAnchorsAliasesAndTags) {
  for (const char* text : {"a: &x 1\n", "a: *x\n", "a: &x {b: 1}\nc: *x\n", "a: &x [1]\n", "a: *.txt\n"}) {
    EXPECT_THAT(parse_error(text).what(), HasSubstr("anchors (&name) and aliases (*name) are not supported")) << text;
  }
  for (const char* text : {"a: !!str 1\n", "a: !x {b: 1}\n", "a: ! 1\n", "a: !<tag:x> [1]\n"}) {
    EXPECT_THAT(parse_error(text).what(), HasSubstr("is not supported")) << text;
  }
}

TEST(ConfigReader, RefusesABillionLaughsFileAtItsFirstAnchor) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string last = fmt::format("*a{}, ", i - 1);
    text += fmt::format("a{}: &a{} [{}x]\n", i, i, repeat(last, 9));
  }
  expect_place(parse_error(text), 1, 5);
}

TEST(ConfigReader, KeepsItsLimits) {
  const std::string wide = "a: [" + repeat("1,", kConfigMaxNodes) + "]\n";
  EXPECT_THAT(parse_error(wide).what(), HasSubstr("more than 100000 values"));
  EXPECT_THAT(parse_error("a: " + repeat("[", 40) + repeat("]", 40)).what(), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(parse_error("a: " + repeat("{b: ", 40) + "1" + repeat("}", 40)).what(), HasSubstr("nested deeper"));
  EXPECT_THAT(parse_error("a:\n  " + repeat("- ", 40) + "1\n").what(), HasSubstr("nested deeper"));
  EXPECT_NO_THROW(parse("a: " + repeat("[", 31) + repeat("]", 31)));
  const std::string at_limit = "a: 1\n#" + std::string(kConfigMaxBytes - 6, 'x');
  EXPECT_NO_THROW(parse(at_limit));
  EXPECT_THAT(parse_error(at_limit + "x").what(), HasSubstr("too large; the limit is 1.0 MiB"));
}

TEST(ConfigReader, SurvivesAMebibyteOfOpenBrackets) {
  for (const char* part : {"[", "{a: ", "? ", "'", "&a "}) {
    parse_error(repeat(part, kConfigMaxBytes / std::string_view(part).size()));
  }
}

TEST(ConfigReader, RefusesBytesThatAreNoText) {
  EXPECT_THAT(parse_error(std::string("a: 1\nb: x\0y\n", 12)).what(), HasSubstr("f.yaml:2:5: control character 0x00"));
  EXPECT_THAT(parse_error("a: x\x04\nb: 1\n").what(), HasSubstr("f.yaml:1:5: control character 0x04"));
  EXPECT_THAT(parse_error("a: \x1b[31m\n").what(), HasSubstr("control character 0x1b"));
  EXPECT_THAT(parse_error("a: \x7f\n").what(), HasSubstr("control character 0x7f"));
  EXPECT_THAT(parse_error("\x1f\x8b\x08").what(), HasSubstr("control character 0x1f"));
  for (const char* bad : {"\xff\xfe", "\x80", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                          "\xf4\x90\x80\x80"}) {
    EXPECT_THAT(parse_error(fmt::format("a: {}\n", bad)).what(), HasSubstr("is not valid UTF-8"));
  }
  EXPECT_THAT(parse_error("a: \"x\\0y\"\n").what(), HasSubstr("line break or control character"));
  EXPECT_THAT(parse_error("a: |\n  x\n  y\n").what(), HasSubstr("line break or control character"));
  EXPECT_EQ(parse("\xEF\xBB\xBF"
                  "a: \"\xC3\xA9\xF0\x9F\x98\x80\"\r\n")
                .root()
                .text("a", ""),
            "\xC3\xA9\xF0\x9F\x98\x80");
}

TEST(ConfigReader, EveryPrefixOfAFileIsReadOrRefused) {
  const std::string text =
      "kind: train # comment\ns:\n  list: [1, 2.5, \"three\"]\n  deep: {a: {b: 'it''s'}}\nrows:\n  - {x: 1}\n  - y: "
      "\"\\u00e9\"\n";
  for (std::size_t size = 0; size < text.size(); ++size) {
    try {
      parse(text.substr(0, size));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::job);
      EXPECT_TRUE(error.place().has_value());
    }
  }
}

TEST(ConfigOverrides, ReplaceAddAndMakeSections) {
  ConfigDocument document = parse("a: 1\nl: [{x: 1}, {x: 2}]\n");
  apply_overrides(document, std::vector<std::string>{"a=2", "s.t.word=hello", "l[1].x=7", "l[0].y=true", "n=[4, 5]",
                                                     "n[1]=6", "a=3", "s.path=a=b"});
  const ConfigNode root = document.root();
  EXPECT_EQ(root.integer("a", 0, 0, 9), 3);
  EXPECT_EQ(root.section("s").section("t").text("word", ""), "hello");
  EXPECT_EQ(root.section("s").text("path", ""), "a=b");
  const std::vector<ConfigNode> entries = root.sections("l", 9);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].integer("x", 0, 0, 9), 1);
  EXPECT_TRUE(entries[0].flag("y", false));
  EXPECT_EQ(entries[1].integer("x", 0, 0, 9), 7);
  EXPECT_THAT(root.integers("n", {}, 0, 9, 9), ElementsAre(4, 6));
  EXPECT_NO_THROW(document.finish());
}

TEST(ConfigOverrides, RefuseMalformedOnesNamingThem) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "there is no '='"},
      {"a", "there is no '='"},
      {"=1", "a key is missing"},
      {"a.=1", "a key is missing"},
      {".a=1", "'.a' cannot start a key"},
      {"a..b=1", "cannot start a key"},
      {"a b=1", "' b' cannot follow a key"},
      {"[0]=1", "cannot start a key"},
      {"l[=1", "an index must be a whole number"},
      {"l[-1]=1", "an index must be a whole number"},
      {"l[x]=1", "an index must be a whole number"},
      {"l[99999999999999999999999]=1", "an index must be a whole number"},
      {"l[1=1", "an index must be a whole number"},
      {"l[5]=1", "'l' has no entry [5]: it is a list of 2 entries"},
      {"l.x=1", "'l' is a list of 2 entries, so it has no key 'x'"},
      {"a.x=1", "'a' is 1, so it has no key 'x'"},
      {"a[0]=1", "'a' is 1, not a list"},
      {"m[0]=1", "there is no list 'm'"},
      {"a=", "there is no value after '='"},
      {"a=#x", "there is no value after '='"},
      {"a={b: 1}", "the value is a section"},
      {"a=[1", "bracket"},
      {"a=\"x", "quote"},
      {"a=*x", "anchors"},
      {std::string("a=\x01", 3), "control character 0x01"},
      {"a=\xff", "not valid UTF-8"},
      {"a=" + repeat("[", 40) + repeat("]", 40), "nested deeper than 32"},
      {"a" + repeat(".b", 40) + "=1", "more than 32 levels"},
      {"a=[{b: 1, b: 2}]", "the key 'b' is there twice"},
  };
  for (const auto& [override, message] : cases) {
    SCOPED_TRACE(override);
    ConfigDocument document = parse("a: 1\nl: [{x: 1}, {x: 2}]\n");
    const Error error = error_of([&] { apply_overrides(document, std::vector<std::string>{override}); });
    EXPECT_THAT(error.message() + " " + error.hint(), HasSubstr(message));
    EXPECT_TRUE(error.place()->file.starts_with("--set " + override.substr(0, 1))) << error.what();
    EXPECT_EQ(error.place()->line, 0);
  }
}

TEST(ConfigOverrides, LaterErrorsNameTheOverride) {
  ConfigDocument document = parse("a: 1\n");
  apply_overrides(document, std::vector<std::string>{"a=many", "s.unknown=1"});
  document.root().integer("a", 0, 0, 9);
  document.root().section("s").integer("known", 0, 0, 9);
  const Error error = error_of([&] { document.finish(); });
  EXPECT_EQ(error.place()->file, "--set a=many");
  EXPECT_THAT(error.what(), HasSubstr("--set a=many: a: expected an integer from 0 to 9, found the text 'many'"));
  EXPECT_THAT(error.what(),
              HasSubstr("\n--set s.unknown=1: unknown key 'unknown' in 's'\n  hint: did you mean 'known'?"));
}

TEST(ConfigOverrides, AreLimitedInNumber) {
  ConfigDocument document = parse("a: 1\n");
  const std::vector<std::string> many(kConfigMaxOverrides + 1, "a=1");
  EXPECT_THAT(error_of([&] { apply_overrides(document, many); }).message(), HasSubstr("the limit is 1000"));
}

TEST(ConfigWriter, WritesWhatTheReaderReadsBack) {
  const std::vector<std::string> texts = {"plain", "two words", "5",           "1e3",      "true", "No",      "null",
                                          "~",     "a: b",      "a #b",        "- x",      "&x",   "*x",      "!x",
                                          "\"q\"", "it's",      "back\\slash", "\xC3\xA9", "[x",   "/a/b.gz", " x "};
  const std::vector<double> numbers = {0.1, 1.0 / 3, 1e-300, -2.5, 1e300, 5, std::numeric_limits<double>::denorm_min()};
  ConfigWriter out;
  out.open("texts");
  for (std::size_t i = 0; i < texts.size(); ++i) out.text(fmt::format("t{}", i), texts[i]);
  out.close();
  out.open_list("rows");
  for (const double number : numbers) {
    out.next_item();
    out.number("value", number);
    out.flag("negative", number < 0);
  }
  out.close_list();
  out.integers("list", std::vector<std::int64_t>{1, -2});
  out.integer("last", std::numeric_limits<std::int64_t>::max());

  ConfigDocument document = parse(out.str());
  const ConfigNode root = document.root();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(root.section("texts").text(fmt::format("t{}", i), ""), texts[i]);
  }
  const std::vector<ConfigNode> rows = root.sections("rows", 100);
  ASSERT_EQ(rows.size(), numbers.size());
  const NumberRange all = NumberRange::closed(-1e308, 1e308);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(rows[i].number("value", -1, all), numbers[i]);
    EXPECT_EQ(rows[i].flag("negative", false), numbers[i] < 0);
  }
  EXPECT_THAT(root.integers("list", {}, -9, 9, 9), ElementsAre(1, -2));
  EXPECT_EQ(root.integer("last", 0, 0, std::numeric_limits<std::int64_t>::max()),
            std::numeric_limits<std::int64_t>::max());
  EXPECT_NO_THROW(document.finish()) << out.str();
}

TEST(ConfigWriter, RefusesWhatCannotBeReadBack) {
  ConfigWriter out;
  EXPECT_THROW(out.text("k", "line\nbreak"), Error);
  EXPECT_THROW(out.text("k", "\xff"), Error);
  EXPECT_THROW(out.number("k", std::numeric_limits<double>::quiet_NaN()), Error);
  EXPECT_THROW(out.number("k", std::numeric_limits<double>::infinity()), Error);
}

}  // namespace
}  // namespace trivet
