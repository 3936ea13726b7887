#include "trivet/ops/einsum.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "trivet/base/error.h"
#include "trivet/ops/registry.h"

namespace trivet {
namespace {

// A dimension's name: a letter, or kEllipsis + its distance from the last dimension of "...".
using Label = int;
using Labels = std::vector<Label>;
constexpr Label kEllipsis = 1000;
constexpr std::size_t kLongestEquation = 1000;

bool contains(const Labels& labels, Label label) {
  return std::find(labels.begin(), labels.end(), label) != labels.end();
}

// --- reading the equation ---

struct Term {
  Labels letters;
  std::size_t ellipsis = 0;  // where "..." stands among the letters
  bool has_ellipsis = false;
  std::size_t place = 0;  // of its first character
};

class Parser {
 public:
  explicit Parser(std::string_view equation) : text_(equation) {
    if (text_.size() > kLongestEquation) {
      throw Error(ErrorCode::graph, fmt::format("an einsum equation has {} characters, at most {} are possible",
                                                text_.size(), kLongestEquation));
    }
  }

  void parse(std::vector<Term>& terms, Term& result, bool& has_result) {
    terms.push_back(term());
    while (next(",")) terms.push_back(term());
    has_result = next("->");
    if (has_result) result = term();
    if (at_ < text_.size()) fail(at_, fmt::format("'{}' is not expected here", text_[at_]));
  }

  [[noreturn]] void fail(std::size_t place, const std::string& message) const {
    throw Error(ErrorCode::graph, fmt::format("einsum '{}', character {}: {}", text_, place + 1, message),
                "as in 'bij,bjk->bik': a letter for each dimension, '...' for any further ones");
  }

 private:
  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool next(std::string_view token) {
    skip_spaces();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }

  Term term() {
    skip_spaces();
    Term term;
    term.place = at_;
    for (;; skip_spaces()) {
      const std::size_t begin = at_;
      if (next("...")) {
        if (term.has_ellipsis) fail(begin, "'...' is given twice");
        term.has_ellipsis = true;
        term.ellipsis = term.letters.size();
      } else if (at_ < text_.size() && is_letter(text_[at_])) {
        term.letters.push_back(text_[at_++]);
      } else {
        return term;
      }
    }
  }

  static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

  std::string_view text_;
  std::size_t at_ = 0;
};

// --- building nodes ---

// A value with a label for each dimension, none twice.
struct Operand {
  ValueId value = kNoValue;
  Labels labels;
};

class Lowering {
 public:
  Lowering(Graph& graph, std::string_view equation, const std::string& name)
      : graph_(graph), parser_(equation), equation_(equation), name_(name.empty() ? "einsum" : name) {}

  ValueId run(const std::vector<ValueId>& values) {
    std::vector<Term> terms;
    Term result;
    bool has_result = false;
    parser_.parse(terms, result, has_result);
    if (terms.size() != values.size()) {
      throw Error(ErrorCode::graph,
                  fmt::format("einsum '{}' names {} operands, there are {}", equation_, terms.size(), values.size()));
    }
    std::vector<Operand> operands;
    for (std::size_t i = 0; i < terms.size(); ++i) operands.push_back(labelled(terms[i], values[i], i));
    const Labels out = has_result ? result_labels(result) : implicit_result(operands);
    for (Operand& operand : operands) operand = without_repeats(std::move(operand));

    Operand product = std::move(operands.front());
    for (std::size_t i = 1; i < operands.size(); ++i) {
      Labels later = out;
      for (std::size_t k = i + 1; k < operands.size(); ++k) {
        later.insert(later.end(), operands[k].labels.begin(), operands[k].labels.end());
      }
      product = joined(std::move(product), std::move(operands[i]), later);
    }
    return arranged(summed(std::move(product), out), out).value;
  }

 private:
  ValueId add(std::string_view op, std::vector<ValueId> inputs, const Attrs& attrs) {
    return apply(graph_, op, std::move(inputs), attrs, fmt::format("{}_{}_{}", name_, op, graph_.nodes().size()));
  }
  const Shape& shape_of(const Operand& operand) const { return graph_.type(operand.value).shape; }
  std::int64_t size(Label label) const { return sizes_.at(label); }
  std::int64_t size(const Labels& labels) const {
    std::int64_t product = 1;
    for (const Label label : labels) product *= size(label);
    return product;
  }
  Shape sizes(const Labels& labels) const {
    Shape shape;
    for (const Label label : labels) shape.push_back(size(label));
    return shape;
  }
  ValueId reshaped(ValueId value, const Shape& shape) {
    return graph_.type(value).shape == shape ? value : add("reshape", {value}, {{"shape", shape}});
  }

  // Labels of an operand's dimensions; their sizes are noted.
  Operand labelled(const Term& term, ValueId value, std::size_t number) {
    const TensorType type = graph_.type(value);
    const auto letters = static_cast<int>(term.letters.size());
    if (type.rank() < letters || (type.rank() > letters && !term.has_ellipsis)) {
      parser_.fail(term.place,
                   fmt::format("{} letters for operand {}, which is {}", letters, number + 1, to_string(type)));
    }
    Operand operand{value, term.letters};
    const int further = type.rank() - letters;
    for (int i = 0; i < further; ++i) {
      operand.labels.insert(operand.labels.begin() + static_cast<std::ptrdiff_t>(term.ellipsis) + i,
                            kEllipsis + further - 1 - i);
    }
    further_ = std::max(further_, further);
    for (std::size_t d = 0; d < operand.labels.size(); ++d) {
      const std::int64_t n = type.shape[d];
      std::int64_t& known = sizes_.emplace(operand.labels[d], n).first->second;
      if (known != n && known != 1 && n != 1) {
        parser_.fail(term.place, fmt::format("{} of operand {} has size {}, but {} elsewhere",
                                             label_name(operand.labels[d]), number + 1, n, known));
      }
      if (known == 1) known = n;
    }
    return operand;
  }

  static std::string label_name(Label label) {
    return label >= kEllipsis ? std::string("a dimension of '...'") : fmt::format("'{}'", static_cast<char>(label));
  }

  Labels ellipsis_labels() const {
    Labels labels;
    for (int i = 0; i < further_; ++i) labels.push_back(kEllipsis + further_ - 1 - i);
    return labels;
  }

  Labels result_labels(const Term& term) const {
    for (std::size_t i = 0; i < term.letters.size(); ++i) {
      const Label letter = term.letters[i];
      if (!sizes_.contains(letter)) {
        parser_.fail(term.place, fmt::format("the result has {}, which no operand has", label_name(letter)));
      }
      if (std::count(term.letters.begin(), term.letters.end(), letter) > 1) {
        parser_.fail(term.place, fmt::format("the result has {} twice", label_name(letter)));
      }
    }
    if (!term.has_ellipsis) return term.letters;
    Labels labels = term.letters;
    const Labels further = ellipsis_labels();
    labels.insert(labels.begin() + static_cast<std::ptrdiff_t>(term.ellipsis), further.begin(), further.end());
    return labels;
  }

  // What occurs once, the dimensions of "..." first.
  Labels implicit_result(const std::vector<Operand>& operands) const {
    std::map<Label, int> count;
    for (const Operand& operand : operands) {
      for (const Label label : operand.labels) ++count[label];
    }
    Labels labels = ellipsis_labels();
    for (const auto& [label, times] : count) {
      if (label < kEllipsis && times == 1) labels.push_back(label);
    }
    return labels;
  }

  // Takes diagonals of repeated labels, and drops dimensions that are 1 here and larger elsewhere: they are repeated.
  Operand without_repeats(Operand operand) {
    for (std::size_t d = 0; d < operand.labels.size(); ++d) {
      const Label label = operand.labels[d];
      while (std::count(operand.labels.begin(), operand.labels.end(), label) > 1) operand = diagonal(operand, label);
    }
    Labels kept;
    Shape shape;
    for (std::size_t d = 0; d < operand.labels.size(); ++d) {
      if (shape_of(operand)[d] != size(operand.labels[d])) continue;
      kept.push_back(operand.labels[d]);
      shape.push_back(shape_of(operand)[d]);
    }
    return {reshaped(operand.value, shape), kept};
  }

  // Of the first two dimensions with this label: they go last, and every (n + 1)-th element of both is taken.
  Operand diagonal(const Operand& operand, Label label) {
    std::vector<std::int64_t> pair, perm;
    Labels labels;
    for (std::size_t d = 0; d < operand.labels.size(); ++d) {
      if (operand.labels[d] == label && pair.size() < 2) {
        pair.push_back(static_cast<std::int64_t>(d));
      } else {
        perm.push_back(static_cast<std::int64_t>(d));
        labels.push_back(operand.labels[d]);
      }
    }
    const Shape shape = shape_of(operand);
    const std::int64_t n = shape[static_cast<std::size_t>(pair[0])];
    if (n != shape[static_cast<std::size_t>(pair[1])]) {
      throw Error(ErrorCode::graph, fmt::format("einsum '{}': {} stands for sizes {} and {} of one operand", equation_,
                                                label_name(label), n, shape[static_cast<std::size_t>(pair[1])]));
    }
    Shape flat;
    for (const std::int64_t d : perm) flat.push_back(shape[static_cast<std::size_t>(d)]);
    const auto axis = static_cast<std::int64_t>(flat.size());
    flat.push_back(n * n);
    perm.insert(perm.end(), pair.begin(), pair.end());
    const ValueId last = reshaped(add("transpose", {operand.value}, {{"perm", perm}}), flat);
    labels.push_back(label);
    return {add("slice", {last},
                {{"starts", Shape{0}}, {"ends", Shape{n * n}}, {"axes", Shape{axis}}, {"steps", Shape{n + 1}}}),
            labels};
  }

  // Sums over the dimensions that `kept` does not have.
  Operand summed(Operand operand, const Labels& kept) {
    std::vector<std::int64_t> axes;
    Labels labels;
    for (std::size_t d = 0; d < operand.labels.size(); ++d) {
      if (contains(kept, operand.labels[d])) {
        labels.push_back(operand.labels[d]);
      } else {
        axes.push_back(static_cast<std::int64_t>(d));
      }
    }
    if (axes.empty()) return operand;
    return {add("reduce_sum", {operand.value}, {{"axes", axes}, {"keepdims", false}}), labels};
  }

  // With the dimensions in this order.
  Operand arranged(Operand operand, const Labels& labels) {
    if (operand.labels == labels) return operand;
    std::vector<std::int64_t> perm;
    for (const Label label : labels) {
      perm.push_back(std::find(operand.labels.begin(), operand.labels.end(), label) - operand.labels.begin());
    }
    return {add("transpose", {operand.value}, {{"perm", perm}}), labels};
  }

  // The product of two operands, summed over what is not needed later.
  Operand joined(Operand a, Operand b, const Labels& later) {
    Labels needed_of_a = later, needed_of_b = later;
    needed_of_a.insert(needed_of_a.end(), b.labels.begin(), b.labels.end());
    needed_of_b.insert(needed_of_b.end(), a.labels.begin(), a.labels.end());
    a = summed(std::move(a), needed_of_a);
    b = summed(std::move(b), needed_of_b);

    Labels batch, depth, rows, columns;
    for (const Label label : a.labels) {
      (!contains(b.labels, label) ? rows : contains(later, label) ? batch : depth).push_back(label);
    }
    for (const Label label : b.labels) {
      if (!contains(a.labels, label)) columns.push_back(label);
    }
    Labels labels = batch;
    labels.insert(labels.end(), rows.begin(), rows.end());
    labels.insert(labels.end(), columns.begin(), columns.end());
    const bool dots = size(rows) == 1 && size(columns) == 1 && !batch.empty();  // too small for matrix products
    const ValueId product = depth.empty() || dots ? multiplied(a, b, batch, rows, columns, depth)
                                                  : matrix_product(a, b, batch, rows, columns, depth);
    return {reshaped(product, checked_shape(labels)), labels};
  }

  Shape checked_shape(const Labels& labels) const {
    if (labels.size() > static_cast<std::size_t>(kMaxRank)) {
      throw Error(ErrorCode::graph,
                  fmt::format("einsum '{}': an intermediate result has rank {}, at most {} is possible", equation_,
                              labels.size(), kMaxRank),
                  "give the operands in another order, or in several steps");
    }
    return sizes(labels);
  }

  // (batch, rows, 1, depth) * (batch, 1, columns, depth), summed over the depth.
  ValueId multiplied(Operand& a, Operand& b, const Labels& batch, const Labels& rows, const Labels& columns,
                     const Labels& depth) {
    const std::int64_t n = size(batch), m = size(rows), k = size(columns), d = size(depth);
    const ValueId left = reshaped(arranged(a, concatenated({batch, rows, depth})).value, {n, m, 1, d});
    const ValueId right = reshaped(arranged(b, concatenated({batch, columns, depth})).value, {n, 1, k, d});
    const ValueId product = add("mul", {left, right}, {});
    if (depth.empty()) return product;
    return add("reduce_sum", {product}, {{"axes", Shape{3}}, {"keepdims", false}});
  }

  // Either operand may be given to matmul with its last two groups of dimensions exchanged, which saves a transpose.
  ValueId matrix_product(Operand& a, Operand& b, const Labels& batch, const Labels& rows, const Labels& columns,
                         const Labels& depth) {
    const bool transpose_a =
        a.labels != concatenated({batch, rows, depth}) && a.labels == concatenated({batch, depth, rows});
    const bool transpose_b = b.labels != concatenated({batch, depth, columns});
    const std::int64_t n = size(batch), m = size(rows), k = size(columns), d = size(depth);
    const auto matrices = [&](Operand& operand, bool transposed, const Labels& plain_rows, std::int64_t r,
                              const Labels& plain_columns, std::int64_t c) {
      const Labels labels = transposed ? concatenated({batch, plain_columns, plain_rows})
                                       : concatenated({batch, plain_rows, plain_columns});
      Shape shape = transposed ? Shape{n, c, r} : Shape{n, r, c};
      if (batch.empty()) shape.erase(shape.begin());
      return reshaped(arranged(operand, labels).value, shape);
    };
    const ValueId left = matrices(a, transpose_a, rows, m, depth, d);
    const ValueId right = matrices(b, transpose_b, depth, d, columns, k);
    return add("matmul", {left, right}, {{"transpose_a", transpose_a}, {"transpose_b", transpose_b}});
  }

  static Labels concatenated(std::initializer_list<Labels> parts) {
    Labels all;
    for (const Labels& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
  }

  Graph& graph_;
  Parser parser_;
  std::string equation_;
  std::string name_;
  std::map<Label, std::int64_t> sizes_;
  int further_ = 0;  // dimensions of "..."
};

}  // namespace

ValueId einsum(Graph& graph, std::string_view equation, const std::vector<ValueId>& operands, const std::string& name) {
  return Lowering(graph, equation, name).run(operands);
}

}  // namespace trivet
