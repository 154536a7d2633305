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

std::string file_path(const std::string& directory, pid_t pid) {
  return directory + "/" + std::to_string(pid);
}

constexpr const char* kPages = ".pages";
constexpr const char* kOwed = ".owed";

Result<PageRanges> read_list(const std::string& path) {
  DVS_ASSIGN(const std::string list, read_file(path));
  const Error corrupt(Code::kCorrupt, path + " is no list of pages");
  if (list.size() % sizeof(PageRange) != 0) return corrupt;
  PageRanges ranges = from_bytes(list);
  uint64_t last = 0;
  for (const PageRange& range : ranges) {
    if (range.start < last || range.end <= range.start) return corrupt;
    if (!check(1, range.start, range.size()).ok()) return corrupt;
    last = range.end;
  }
  return ranges;
}

}  // namespace

Result<Store> Store::open(std::string directory) {
  DVS_TRY(make_dirs(directory));
  if (::chmod(directory.c_str(), 0700) != 0) return errno_error("cannot chmod " + directory);
  return Store(std::move(directory));
}

Result<Store::Memory*> Store::memory_of(pid_t pid) {
  auto found = memories_.find(pid);
  if (found != memories_.end()) return &found->second;
  if (memories_.size() == kMostProcesses) {
    return Error(Code::kCorrupt, "memory of too many processes");
  }
  const std::string path = file_path(directory_, pid);
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return errno_error("cannot create " + path);
  return &memories_.emplace(pid, Memory{std::move(file), {}, {}}).first->second;
}

Status Store::write(pid_t pid, uint64_t address, std::string_view bytes) {
  DVS_TRY(check(pid, address, bytes.size()));
  DVS_ASSIGN(Memory* const memory, memory_of(pid));
  memory->pages.add({address, address + bytes.size()});
  memory->owed.remove({address, address + bytes.size()});
  while (!bytes.empty()) {
    const ssize_t size =
        ::pwrite(memory->file.get(), bytes.data(), bytes.size(), static_cast<off_t>(address));
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
  DVS_ASSIGN(Memory* const memory, memory_of(pid));
  memory->pages.remove(range);
  memory->owed.remove(range);
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (::fallocate(memory->file.get(), kPunch, static_cast<off_t>(range.start),
                  static_cast<off_t>(range.size())) == 0) {
    return {};
  }
  return errno_error("cannot drop the memory of a process");
}

// What the file has there is left: it is not listed, and is written over. To free it takes 0.2 ms
// per MiB, while the process is frozen.
Status Store::owe(pid_t pid, PageRange range) {
  if (range.end < range.start) return Error(Code::kCorrupt, "memory at an address that cannot be");
  DVS_TRY(check(pid, range.start, range.size()));
  DVS_ASSIGN(Memory* const memory, memory_of(pid));
  memory->pages.remove(range);
  memory->owed.add(range);
  return {};
}

uint64_t Store::owed_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [pid, memory] : memories_) bytes += total_size(memory.owed.ranges());
  return bytes;
}

Status Store::seal() const {
  for (const auto& [pid, memory] : memories_) {
    const std::string path = file_path(directory_, pid);
    DVS_TRY(replace_file(path + kOwed, as_bytes(memory.owed.ranges())));
    DVS_TRY(replace_file(path + kPages, as_bytes(memory.pages.ranges())));
  }
  return {};
}

Result<StoredMemory> open_stored(const std::string& directory, pid_t pid) {
  StoredMemory stored;
  const std::string path = file_path(directory, pid);
  stored.file.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!stored.file.valid() && errno == ENOENT) return stored;
  if (!stored.file.valid()) return errno_error("cannot open " + path);
  DVS_ASSIGN(stored.pages, read_list(path + kPages));
  DVS_ASSIGN(stored.owed, read_list(path + kOwed));
  return stored;
}

}  // namespace dvs::mover
