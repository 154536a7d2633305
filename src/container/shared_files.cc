#include "container/shared_files.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "container/paths.h"

namespace dvs {
namespace {

Result<UniqueFd> open_beneath(const std::string& dc_dir, const std::string& name, int flags) {
  const std::string path = paths::shared_dir(dc_dir) + "/" + name;
  const UniqueFd dir(
      ::open(paths::shared_dir(dc_dir).c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir.valid()) return errno_error("cannot open " + path);
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? 0644 : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  UniqueFd fd(static_cast<int>(::syscall(SYS_openat2, dir.get(), name.c_str(), &how, sizeof how)));
  if (!fd.valid()) return errno_error("cannot open " + path);
  return fd;
}

Result<uint64_t> size_of(const UniqueFd& file, const std::string& name) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return errno_error("cannot stat " + name);
  if (!S_ISREG(info.st_mode)) return Error(Code::kInvalid, name + " is not a regular file");
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

Result<UniqueFd> open_shared(const std::string& dc_dir, const std::string& name, int flags) {
  // O_TRUNC comes after the look at what was opened.
  DVS_ASSIGN(UniqueFd file, open_beneath(dc_dir, name, (flags & ~O_TRUNC) | O_NONBLOCK | O_NOCTTY));
  DVS_TRY(size_of(file, name));
  if ((flags & O_TRUNC) != 0 && ::ftruncate(file.get(), 0) != 0) {
    return errno_error("cannot empty " + name);
  }
  return file;
}

Result<std::string> read_shared(const std::string& dc_dir, const std::string& name, uint64_t max) {
  DVS_ASSIGN(const UniqueFd file, open_shared(dc_dir, name, O_RDONLY));
  DVS_ASSIGN(const uint64_t size, size_of(file, name));
  std::string content(std::min(size, max), '\0');
  size_t got = 0;
  while (got < content.size()) {
    const auto at = static_cast<off_t>(size - content.size() + got);
    const ssize_t n = ::pread(file.get(), content.data() + got, content.size() - got, at);
    if (n < 0) return errno_error("cannot read " + name);
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  content.resize(got);
  return content;
}

Status write_shared(const std::string& dc_dir, const std::string& name,
                    const std::string& content) {
  DVS_ASSIGN(const UniqueFd file, open_shared(dc_dir, name, O_WRONLY | O_CREAT | O_TRUNC));
  if (::write(file.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    return errno_error("cannot write " + name);
  }
  return {};
}

void remove_shared(const std::string& dc_dir, const std::string& name) {
  const size_t slash = name.rfind('/');
  const std::string parent = slash == name.npos ? "." : name.substr(0, slash);
  const auto dir = open_beneath(dc_dir, parent, O_PATH | O_DIRECTORY);
  if (dir.ok()) ::unlinkat(dir->get(), name.c_str() + (slash == name.npos ? 0 : slash + 1), 0);
}

}  // namespace dvs
