// Fuzz targets of what a run leaves behind and Trivet reads again: others may have changed it, or sent it.
#pragma once

#include "tests/fuzz/fuzz_file.h"

namespace trivet::testing {

// state.json of a checkpoint, whose digests are put right: what it says about model and data is used on small data.
void fuzz_checkpoint(Bytes bytes);
// The files of a run's folder, one after the other with a zero byte between them: metrics.jsonl, evaluation.json,
// environment.json, plan.txt, job.yaml, log.txt.
void fuzz_run_folder(Bytes bytes);
// trivet.db.
void fuzz_store(Bytes bytes);

}  // namespace trivet::testing
