#include "mover/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

namespace dvs::mover {
namespace {

// More processes than this no migration has; what names more is wrong.
constexpr size_t kMostProcesses = 10'000;

Status check(pid_t pid, uint64_t address, uint64_t size) {
  const bool sane = pid > 0 && is_page_aligned(address) && is_page_aligned(size) && size > 0 &&
                    address < kAddressLimit && size <= kAddressLimit - address;
  return sane ? Status() : Error(Code::kCorrupt, "memory at an address that cannot be");
}

}  // namespace

std::string store_file(const std::string& directory, pid_t pid) {
  return directory + "/" + std::to_string(pid);
}

Result<Store> Store::open(std::string directory) {
  DVS_TRY(make_dirs(directory));
  if (::chmod(directory.c_str(), 0700) != 0) return errno_error("cannot chmod " + directory);
  return Store(std::move(directory));
}

Result<int> Store::file_of(pid_t pid) {
  auto found = files_.find(pid);
  if (found != files_.end()) return found->second.get();
  if (files_.size() == kMostProcesses) return Error(Code::kCorrupt, "memory of too many processes");
  const std::string path = store_file(directory_, pid);
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return errno_error("cannot create " + path);
  return files_.emplace(pid, std::move(file)).first->second.get();
}

Status Store::write(pid_t pid, uint64_t address, std::string_view bytes) {
  DVS_TRY(check(pid, address, bytes.size()));
  DVS_ASSIGN(const int file, file_of(pid));
  while (!bytes.empty()) {
    const ssize_t size = ::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(address));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno_error("cannot keep the memory of a process");
    bytes.remove_prefix(static_cast<size_t>(size));
    address += static_cast<uint64_t>(size);
  }
  return {};
}

Status Store::drop(pid_t pid, PageRange range) {
  if (range.end < range.start) return Error(Code::kCorrupt, "memory at an address that cannot be");
  DVS_TRY(check(pid, range.start, range.size()));
  DVS_ASSIGN(const int file, file_of(pid));
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (::fallocate(file, kPunch, static_cast<off_t>(range.start),
                  static_cast<off_t>(range.size())) == 0) {
    return {};
  }
  return errno_error("cannot drop the memory of a process");
}

Result<PageRanges> stored_pages(const UniqueFd& file) {
  PageRanges pages;
  off_t at = 0;
  while ((at = ::lseek(file.get(), at, SEEK_DATA)) >= 0) {
    const off_t end = ::lseek(file.get(), at, SEEK_HOLE);
    if (end < 0) return errno_error("cannot search a store of memory");
    // A file that is no store of ours may end anywhere.
    const uint64_t last = (static_cast<uint64_t>(end) + kPageSize - 1) / kPageSize * kPageSize;
    append(pages, {static_cast<uint64_t>(at) / kPageSize * kPageSize, last});
    at = end;
  }
  if (errno != ENXIO) return errno_error("cannot search a store of memory");
  return pages;
}

}  // namespace dvs::mover
