// The clock for durations.
#pragma once

namespace trivet {

double steady_seconds();  // never set back; only differences mean something

}  // namespace trivet
