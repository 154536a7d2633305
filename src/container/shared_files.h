// Files in a DC's shared directory, for dvsd. Programs of the DC may put anything in their place:
// links to other files of the node, pipes, endless files. Here only regular files are opened, only
// below that directory, and never more is read than was asked for.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace dvs {

// `name` is relative to paths::shared_dir(dc_dir), e.g. "logs/1-abc.log"; `flags` as for open(2).
Result<UniqueFd> open_shared(const std::string& dc_dir, const std::string& name, int flags);

// The last `max` bytes of it.
Result<std::string> read_shared(const std::string& dc_dir, const std::string& name, uint64_t max);

// Creates or overwrites it.
Status write_shared(const std::string& dc_dir, const std::string& name, const std::string& content);

void remove_shared(const std::string& dc_dir, const std::string& name);

}  // namespace dvs
