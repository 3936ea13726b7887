// The sources that open_data() chooses from; that of images is in trivet/data/image_data.h.
#pragma once

#include <memory>

#include "runtime/data/table_store.h"
#include "trivet/data/dataset.h"

namespace trivet {

// Error(data) or Error(io) with file, line and column; Error(data) for a table without rows.
std::unique_ptr<DataSource> open_table(const TableFile& file, const DataConfig& config);

// .npy or .npz. The arrays stay in their files; what they hold is read by fit() and Dataset::read().
std::unique_ptr<DataSource> open_npy(const DataFiles& files);
std::unique_ptr<DataSource> open_npz(const DataFiles& files);

}  // namespace trivet
