// What metrics are called, and which way is better.
#pragma once

#include <string>

namespace trivet::report {

std::string metric_label(const std::string& name);  // "learning rate" of "lr"

// A key such as "test.accuracy" is judged by what follows its last dot.
bool is_percent(const std::string& key);

enum class Better { higher, lower, neither };
Better better(const std::string& key);

}  // namespace trivet::report
