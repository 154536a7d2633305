#include "base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/unique_fd.h"

namespace dvs {
namespace fs = std::filesystem;
namespace {

Error fs_error(const std::string& what, const std::error_code& ec) {
  return errno_error(what, ec.value());
}

Status write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot write " + path);
    content.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + path);
  std::string content;
  char buffer[16384];
  for (;;) {
    ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("cannot read " + path);
    if (n == 0) return content;
    content.append(buffer, static_cast<size_t>(n));
  }
}

Status write_control_file(const std::string& path, std::string_view content) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + path);
  return write_all(fd.get(), content, path);
}

Status replace_file(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".new";
  {
    UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd.valid()) return errno_error("cannot create " + temporary);
    DVS_TRY(write_all(fd.get(), content, temporary));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return errno_error("cannot rename to " + path);
  return {};
}

Status make_dirs(const std::string& path) {
  std::error_code ec;
  fs::create_directories(path, ec);
  if (ec) return fs_error("cannot create directory " + path, ec);
  return {};
}

// Tried again when it is not empty: who still works in it may have added something meanwhile.
Status remove_tree(const std::string& path) {
  constexpr int kAttempts = 10;
  std::error_code ec;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    fs::remove_all(path, ec);
    if (ec != std::errc::directory_not_empty) break;
  }
  if (ec) return fs_error("cannot remove " + path, ec);
  return {};
}

Result<std::vector<std::string>> list_dir(const std::string& path) {
  std::error_code ec;
  std::vector<std::string> names;
  for (fs::directory_iterator it(path, ec), end; !ec && it != end; it.increment(ec)) {
    names.push_back(it->path().filename().string());
  }
  if (ec) return fs_error("cannot list " + path, ec);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace dvs
