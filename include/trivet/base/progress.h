// How far a job is, shown to a person: one line that is redrawn on a terminal, plain lines elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace trivet {

// A count of 0 for `epochs`, `steps` or `total` means unknown, and so does a negative `left`.
struct Progress {
  std::string phase;  // "train", "evaluate", "infer"
  std::int64_t epoch = 0;
  std::int64_t epochs = 0;
  std::int64_t step = 0;  // of this phase of this epoch
  std::int64_t steps = 0;
  std::int64_t samples = 0;  // likewise
  std::int64_t total = 0;
  double rate = 0;             // samples per second
  std::optional<double> loss;  // mean over the epoch so far
  double seconds = 0;          // since the phase began
  double left = -1;            // seconds until the job's end

  bool operator==(const Progress&) const = default;
};

// Where and how to draw.
struct ProgressStyle {
  std::function<void(std::string_view)> write;
  std::function<double()> clock;         // seconds, monotonic
  std::function<std::size_t()> columns;  // asked again at each drawing, since windows change
  bool terminal = false;                 // false: no control character is ever written
  bool unicode = false;
  bool color = false;
};

// The style that fits `file`: a terminal unless TERM is "dumb" or unset, Unicode if LC_ALL, LC_CTYPE or LANG (the first
// one set) names UTF-8, colours unless NO_COLOR is set (https://no-color.org). Columns come from the terminal, else
// from COLUMNS, else are 80.
ProgressStyle progress_style(std::FILE* file);

class ProgressBar {
 public:
  explicit ProgressBar(ProgressStyle style);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();  // clears the bar

  // Draws at most 10 times a second on a terminal, and writes a line at most every 10 s elsewhere.
  void update(const Progress& progress);

  // A permanent line, above the bar. Line breaks in `text` are kept, other control characters become spaces.
  void line(std::string_view text);

  // Clears the bar; a later update draws it again.
  void clear();

 private:
  std::string compose(const Progress& progress) const;
  void draw();

  ProgressStyle style_;
  std::optional<Progress> shown_;
  std::optional<double> written_at_;
};

}  // namespace trivet
