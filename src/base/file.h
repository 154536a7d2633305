// Small whole-file operations, for /proc, cgroup files and state files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace dvs {

// The whole of a (small) file.
Result<std::string> read_file(const std::string& path);

// Writes in one write(2), as cgroup and /proc files want it; does not create the file.
Status write_control_file(const std::string& path, std::string_view content);

// Creates or replaces `path` atomically (temporary file + rename): a crash leaves the old content
// or the new one, never half.
Status replace_file(const std::string& path, std::string_view content);

// mkdir -p; existing directories are fine.
Status make_dirs(const std::string& path);

// rm -rf that stays on one filesystem object tree; a missing path is fine.
Status remove_tree(const std::string& path);

// Names in a directory, without "." and ".."; sorted.
Result<std::vector<std::string>> list_dir(const std::string& path);

}  // namespace dvs
