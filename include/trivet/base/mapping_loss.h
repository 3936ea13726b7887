// What to say when a mapped file (MappedFile) loses its bytes while it is read: another program cut it short, or its
// disk failed. The system tells of it by SIGBUS, which no exception can follow.
#pragma once

#include <cstddef>

namespace trivet {

// Called in the thread that read, on the way out of the process: `path` was mapped with `bytes` bytes. It may use what
// reading bytes of a file cannot have interrupted, such as memory and files, and should end the process; if it returns,
// SIGBUS does.
using MappingLossHandler = void (*)(const char* path, std::size_t bytes);

// From now on, for this process. For programs: a library leaves signals to them.
void on_mapping_loss(MappingLossHandler handler);

}  // namespace trivet
