// Which source a data set's files are.
#include "runtime/data/sources.h"
#include "trivet/base/error.h"
#include "trivet/data/image_data.h"

namespace trivet {
namespace {

enum class Form { csv, arff, json_lines, npy, npz };

std::string extension(const std::filesystem::path& path) {
  std::filesystem::path name = path.filename();
  if (name.extension() == ".gz") name = name.stem();
  std::string result = name.extension().string();
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

// The first bytes, inflated.
std::string beginning(const std::filesystem::path& path) {
  std::string bytes(4096, '\0');
  GzipFile file(path);
  bytes.resize(file.read(std::as_writable_bytes(std::span(bytes))));
  const bool array = bytes.starts_with("\x93NUMPY") || bytes.starts_with("PK\x03\x04");
  if (array && file.compressed()) {
    throw Error(ErrorCode::data,
                fmt::format("{} is an array inside gzip, and arrays are read where they lie", path.string()),
                "inflate it: gunzip");
  }
  return bytes;
}

Form form_of_text(const std::filesystem::path& path, std::string_view text) {
  const std::string name = extension(path);
  if (name == ".csv" || name == ".tsv") return Form::csv;
  if (name == ".arff") return Form::arff;
  if (name == ".jsonl" || name == ".ndjson") return Form::json_lines;
  if (name == ".npy" || name == ".npz") {
    throw Error(ErrorCode::data, fmt::format("{} does not begin as a file of NumPy's does", path.string()),
                "save it with numpy.save or numpy.savez");
  }
  const std::size_t start = text.find_first_not_of(" \t\r\n");
  const char first = start == std::string_view::npos ? '\0' : text[start];
  if (first == '{') return Form::json_lines;
  if (first == '%' || first == '@') return Form::arff;
  if (first == '[') {
    throw Error(ErrorCode::data, fmt::format("{} is a JSON list, expected an object on each line", path.string()),
                "convert it: jq -c '.[]'");
  }
  return Form::csv;
}

Form form_of(const std::filesystem::path& path) {
  const std::string text = beginning(path);
  if (text.starts_with("\x93NUMPY")) return Form::npy;
  if (text.starts_with("PK\x03\x04") || text.starts_with("PK\x05\x06")) return Form::npz;
  return form_of_text(path, text);
}

}  // namespace

std::unique_ptr<DataSource> open_data(const DataFiles& files, const DataConfig& config) {
  if (files.is_images()) return open_images(files);
  if (files.file.empty()) throw Error(ErrorCode::data, "no data file is named", "name it under `file` or `images`");
  const Form form = form_of(files.file);
  if (form == Form::npy) return open_npy(files);
  if (form == Form::npz) return open_npz(files);
  if (!files.targets.empty()) {
    throw Error(ErrorCode::data,
                fmt::format("{} is a table, and its target is one of its columns; {} is not needed",
                            files.file.string(), files.targets.string()),
                "name the column under data.table.target");
  }
  TableFile table;
  table.path = files.file;
  table.form = form == Form::arff ? TableForm::arff : form == Form::json_lines ? TableForm::json_lines : TableForm::csv;
  return open_table(table, config);
}

}  // namespace trivet
