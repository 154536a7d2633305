#include "mover/memory_map.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/file.h"
#include "base/unique_fd.h"

namespace dvs::mover {
namespace {

// Takes `text` apart from its front; after something unexpected good() is false.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : rest_(text) {}

  uint64_t number(int base) {
    uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    good_ &= error == std::errc();
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return value;
  }
  void expect(char wanted) {
    const bool there = !rest_.empty() && rest_.front() == wanted;
    good_ &= there;
    if (there) rest_.remove_prefix(1);
  }
  std::string_view take(size_t count) {
    good_ &= rest_.size() >= count;
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(taken.size());
    return taken;
  }
  std::string_view rest_after_blanks() const {
    const size_t begin = rest_.find_first_not_of(' ');
    return begin == std::string_view::npos ? std::string_view() : rest_.substr(begin);
  }
  bool empty() const { return rest_.empty(); }
  bool good() const { return good_; }

 private:
  std::string_view rest_;
  bool good_ = true;
};

bool is_kernels(std::string_view name) {
  for (const std::string_view prefix :
       {"[vdso]", "[vvar", "[vsyscall]", "[vectors]", "[uprobes]"}) {
    if (name.starts_with(prefix)) return true;
  }
  return false;
}

MemoryKind kind_of(bool shared, uint64_t inode, std::string_view name) {
  if (is_kernels(name)) return MemoryKind::kKernel;
  if (shared) return MemoryKind::kShared;
  return inode != 0 || name.starts_with('/') ? MemoryKind::kPrivateFile : MemoryKind::kAnonymous;
}

// "7f10a000-7f10c000 rw-p 00000000 00:00 0    [heap]"; nothing: it is another line.
std::optional<Mapping> parse_mapping(std::string_view line) {
  Cursor cursor(line);
  Mapping mapping;
  mapping.range.start = cursor.number(16);
  cursor.expect('-');
  mapping.range.end = cursor.number(16);
  cursor.expect(' ');
  const auto access = cursor.take(4);
  cursor.expect(' ');
  cursor.number(16);  // offset
  cursor.expect(' ');
  cursor.number(16);  // device
  cursor.expect(':');
  cursor.number(16);
  cursor.expect(' ');
  const uint64_t inode = cursor.number(10);
  if (!cursor.empty()) cursor.expect(' ');
  const auto [start, end] = mapping.range;
  const bool sane = start < end && is_page_aligned(start) && is_page_aligned(end);
  if (!cursor.good() || !sane || (access[3] != 'p' && access[3] != 's')) return std::nullopt;
  mapping.readable = access[0] == 'r';
  mapping.writable = access[1] == 'w';
  mapping.name = cursor.rest_after_blanks();
  mapping.kind = kind_of(access[3] == 's', inode, mapping.name);
  return mapping;
}

void apply_flag(Mapping& mapping, std::string_view flag) {
  if (flag == "gd") mapping.grows_down = true;
  if (mapping.kind == MemoryKind::kKernel || mapping.kind == MemoryKind::kShared) return;
  if (flag == "ht") mapping.kind = MemoryKind::kHugetlb;
  if (mapping.kind != MemoryKind::kAnonymous) return;
  if (flag == "lo") mapping.kind = MemoryKind::kLocked;
  if (flag == "ss" || flag == "io" || flag == "pf" || flag == "dp") {
    mapping.kind = MemoryKind::kKernel;
  }
}

constexpr std::string_view kFlags = "VmFlags:";

void apply_flags(Mapping& mapping, std::string_view flags) {
  while (!flags.empty()) {
    const size_t end = std::min(flags.find(' '), flags.size());
    apply_flag(mapping, flags.substr(0, end));
    flags.remove_prefix(std::min(end + 1, flags.size()));
  }
}

// "Rss:    4 kB", "VmFlags: rd wr", ...
bool is_attribute(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == 0 || colon == std::string_view::npos || line[0] < 'A' || line[0] > 'Z') return false;
  return line.substr(0, colon).find_first_of(" -") == std::string_view::npos;
}

Error corrupt(std::string_view line) {
  return Error(Code::kCorrupt, "a memory map with the line \"" + std::string(line) + "\"");
}

}  // namespace

Result<MemoryMap> parse_memory_map(std::string_view text) {
  MemoryMap map;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (end == std::string_view::npos) return corrupt(line);  // cut off
    text.remove_prefix(end + 1);
    if (auto mapping = parse_mapping(line)) {
      if (!map.empty() && mapping->range.start < map.back().range.end) return corrupt(line);
      map.push_back(std::move(*mapping));
    } else if (map.empty() || !is_attribute(line)) {
      return corrupt(line);
    } else if (line.starts_with(kFlags)) {
      apply_flags(map.back(), line.substr(kFlags.size()));
    }
  }
  return map;
}

// The kernel gives the text in pieces, and of a process that ends meanwhile no more of them.
Result<MemoryMap> read_memory_map(pid_t pid, MapDetail detail) {
  const std::string directory = "/proc/" + std::to_string(pid);
  const UniqueFd maps(::open((directory + "/maps").c_str(), O_RDONLY | O_CLOEXEC));
  if (!maps.valid()) return errno_error("cannot open " + directory + "/maps");
  DVS_ASSIGN(const auto text,
             read_file(directory + (detail == MapDetail::kMaps ? "/maps" : "/smaps")));
  char byte = 0;
  if (text.empty() || ::read(maps.get(), &byte, 1) != 1) {
    return Error(Code::kNotFound, "process " + std::to_string(pid) + " has ended");
  }
  return parse_memory_map(text);
}

PageRanges movable(const MemoryMap& map) {
  PageRanges ranges;
  for (const Mapping& mapping : map) {
    if (mapping.kind == MemoryKind::kAnonymous) ranges.push_back(mapping.range);
  }
  return ranges;
}

}  // namespace dvs::mover
