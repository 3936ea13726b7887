// docs/job-file.md and examples/ say what the reader does.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/job/job_files.h"

namespace trivet {
namespace {

const std::filesystem::path kSource = TRIVET_SOURCE_DIR;

struct KeyRow {
  std::string key;
  std::string default_cell;
};

std::string trim(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(' ');
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The rows "| `key` | type | default | ..." of the document's tables.
std::vector<KeyRow> documented_keys() {
  std::vector<KeyRow> rows;
  for (const std::string& line : lines_of(read_text(kSource / "docs" / "job-file.md"))) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    std::istringstream stream(line.substr(1));
    for (std::string cell; std::getline(stream, cell, '|');) cells.push_back(trim(cell));
    if (cells.size() < 3) {
      ADD_FAILURE() << line;
      continue;
    }
    rows.push_back({cells[0].substr(1, cells[0].size() - 2), cells[2]});
  }
  return rows;
}

class JobDocumentationTest : public JobTest {
 protected:
  // A job's data files need not be installed where the tests run.
  std::vector<std::string> data_overrides(const std::string& text) const {
    const std::string images = (folder_ / "images.idx").native();
    if (text.find("file:") != std::string::npos) return {"data.train.file=" + images};
    if (text.find("kind: infer") != std::string::npos) return {"data.images=" + images, "data.labels=" + images};
    return {"data.train.images=" + images, "data.train.labels=" + images, "data.test.images=" + images,
            "data.test.labels=" + images};
  }
};

TEST_F(JobDocumentationTest, NamesEveryKeyAndNoOther) {
  std::set<std::string> documented;
  for (const KeyRow& row : documented_keys()) EXPECT_TRUE(documented.insert(row.key).second) << row.key << " twice";
  const std::vector<std::string> keys = job_keys();
  EXPECT_GT(keys.size(), 50u);
  EXPECT_THAT(documented, ::testing::ElementsAreArray(keys));
}

TEST_F(JobDocumentationTest, StatesTheDefaultsThatTheReaderUses) {
  const std::vector<std::string> jobs = {
      train_text("train: {schedule: {name: cosine}, average: {}, early_stop: {}}\n"),
      train_text("train: {schedule: {name: one_cycle}}\n"),
      "kind: train\nname: t\ndata: {train: {file: images.idx}}\n",
      train_text("train:\n  optimizer: {name: sgd}\n  schedule: {name: step, milestones: [1]}\n"),
      train_text("model: {name: layers, layers: [{type: conv, filters: 1}]}\n"),
      train_text("model: {name: layers, layers: [{type: max_pool}]}\n"),
      train_text("model: {name: resnet}\n"),
      train_text("model: {name: wide_deep}\n"),
      train_text("model: {name: lstm}\n"),
      train_text(),
      infer_text("infer: {run: r}\n"),
  };
  int checked = 0;
  for (const KeyRow& row : documented_keys()) {
    const std::string& cell = row.default_cell;
    const bool literal = cell.size() > 2 && cell.front() == '`' && cell.find('`', 1) == cell.size() - 1;
    if (!literal || cell.find('<') != std::string::npos) continue;
    SCOPED_TRACE(row.key + " " + cell);
    std::string key = row.key;
    if (const std::size_t at = key.find("[]"); at != std::string::npos) key.insert(at + 1, "0");
    const std::string override = fmt::format("{}={}", key, cell.substr(1, cell.size() - 2));
    bool unchanged = false;  // in a job to which the key applies
    for (const std::string& job : jobs) {
      const std::string without = resolved_yaml(parse(job));
      try {
        unchanged = unchanged || resolved_yaml(parse(job, {override})) == without;
      } catch (const Error&) {
        continue;
      }
    }
    EXPECT_TRUE(unchanged);
    ++checked;
  }
  EXPECT_GT(checked, 25);
}

TEST_F(JobDocumentationTest, ShowsJobsThatAreAccepted) {
  int shown = 0;
  std::string block;
  bool in_block = false;
  for (const std::string& line : lines_of(read_text(kSource / "docs" / "job-file.md"))) {
    if (line == "```yaml") {
      in_block = true;
      block.clear();
    } else if (line == "```" && in_block) {
      in_block = false;
      SCOPED_TRACE(block);
      EXPECT_NO_THROW(parse(block, data_overrides(block)));
      ++shown;
    } else if (in_block) {
      block += line + "\n";
    }
  }
  EXPECT_EQ(shown, 4);
}

TEST_F(JobDocumentationTest, ExamplesAreAcceptedAndNamedForTheirFiles) {
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "examples")) {
    if (!entry.path().filename().native().starts_with("fashion-")) continue;
    SCOPED_TRACE(entry.path().native());
    const std::string text = read_text(entry.path());
    const JobSpec spec = parse(text, data_overrides(text));
    EXPECT_EQ(spec.name, entry.path().stem());
    ++found;
  }
  EXPECT_GE(found, 4);
}

}  // namespace
}  // namespace trivet
