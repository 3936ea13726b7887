// What `trivet --help` shows, for the program that answers it alone and for the one that does the work.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace trivet::cli {

// Description, options, verbs by name and footer. The verbs have no options yet: each add_<verb> of verbs.h brings its
// own. `workspace` gets the value of --workspace and must outlive `app`.
void add_top_level(CLI::App& app, std::string& workspace);

}  // namespace trivet::cli
