// Runs as pages (trivet/report/report.h).
#pragma once

#include "tools/trivet/run_record.h"
#include "trivet/report/report.h"

namespace trivet::cli {

// What the record of runs knows of a run, for its page.
ReportedRun reported(const RunRecord& run);

// report.html in the folder of a run that has ended. If it cannot be written, that is said on standard error, and the
// run stays what it is.
void write_final_report(const JobRecord& job);

}  // namespace trivet::cli
