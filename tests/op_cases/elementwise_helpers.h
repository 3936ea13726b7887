// What the cases of the element-wise families share.
#pragma once

#include <limits>

#include "tests/op_cases/op_case.h"

namespace trivet::testing {

inline constexpr double kInf = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

using Unary = std::function<double(double)>;
using Binary = std::function<double(double, double)>;
// The function for a variant's attributes.
using UnaryOf = std::function<Unary(const Variant&)>;
using BinaryOf = std::function<Binary(const Variant&)>;
using Reference = std::function<std::vector<Ref>(const std::vector<Ref>&, const Variant&)>;

Fill normal(double mean = 0, double deviation = 1);
Fill uniform(double low, double high);
Fill index_below(double end);  // integers from 0
Fill listed(std::vector<double> values);

// Infinities, NaN, zeros, and numbers at which exponentials overflow, underflow or saturate.
const std::vector<double>& extreme_values();

CaseInput typed(DType type, Shape shape, Fill fill);
CaseInput f32(Shape shape, Fill fill = {});

// The element of `x` that stands at flat position i of a result of shape `out`.
std::int64_t broadcast_index(std::int64_t i, const Shape& out, const Shape& x);
Shape broadcast(const Shape& a, const Shape& b);

double number_attribute(const std::string& op, const Variant& v, const std::string& name);

// f of each pair of elements after broadcasting; results of integer inputs wrap around as their type does.
Reference binary_reference(BinaryOf f);

// Sizes from a scalar on, extreme values, one variant for several threads; f32 and bf16.
OpCase unary_case(std::string op, Unary f, Fill fill = {});
OpCase unary_case_of(std::string op, UnaryOf f, Fill fill = {});
// Every kind of broadcast, extreme pairs; f32 and bf16.
OpCase binary_case(std::string op, Binary f, const Fill& a = {}, const Fill& b = {});
// Inputs (dy, saved) of one shape; f32 and bf16.
OpCase backward_case(std::string op, Binary f, Fill saved = {});
OpCase backward_case_of(std::string op, BinaryOf f, Fill saved = {});

// Repeats every variant with these attributes; `name` begins the copies' names.
void add_with_attributes(OpCase& c, const std::string& name, const Attrs& attrs);

}  // namespace trivet::testing
