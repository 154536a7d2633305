#include "migrate/engine/memory_apart.h"

#include <unistd.h>

#include <cstring>
#include <optional>
#include <string_view>

#include "base/file.h"
#include "criu_images.pb.h"
#include "migrate/engine/filter_files.h"
#include "mover/memory_map.h"

namespace dvs {
namespace {

using criu_images::PagemapEntry;
using mover::kPageSize;
using mover::PageRange;
using mover::PageRanges;

constexpr uint32_t kImageMagic = 0x54564319;
constexpr uint32_t kPagemapMagic = 0x56084025;

std::string file_of(const std::string& dir, const char* name, pid_t pid) {
  return dir + "/" + name + "." + std::to_string(pid);
}

class ImageReader {
 public:
  explicit ImageReader(std::string_view image) : rest_(image) {}
  bool empty() const { return rest_.empty(); }
  std::optional<uint32_t> number() {
    uint32_t value = 0;
    if (rest_.size() < sizeof value) return std::nullopt;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return value;
  }
  bool message(google::protobuf::MessageLite& message) {
    const auto size = number();
    if (!size || *size > rest_.size()) return false;
    const bool parsed = message.ParseFromArray(rest_.data(), static_cast<int>(*size));
    rest_.remove_prefix(*size);
    return parsed;
  }

 private:
  std::string_view rest_;
};

bool sane(const PagemapEntry& entry) {
  const uint64_t start = entry.vaddr();
  return entry.has_nr_pages() && entry.has_flags() && mover::is_page_aligned(start) &&
         start < mover::kAddressLimit && entry.nr_pages() > 0 &&
         entry.nr_pages() <= (mover::kAddressLimit - start) / kPageSize;
}

// The pages that the images have of a process.
Result<PageRanges> dumped_pages(const std::string& image) {
  const Error corrupt(Code::kCorrupt, "this criu writes page maps that we do not know");
  ImageReader reader(image);
  criu_images::PagemapHead head;
  if (reader.number() != kImageMagic || reader.number() != kPagemapMagic || !reader.message(head)) {
    return corrupt;
  }
  PageRanges pages;
  while (!reader.empty()) {
    PagemapEntry entry;
    if (!reader.message(entry) || !sane(entry)) return corrupt;
    if (!pages.empty() && entry.vaddr() < pages.back().end) return corrupt;
    pages.push_back({entry.vaddr(), entry.vaddr() + entry.nr_pages() * kPageSize});
  }
  return pages;
}

Status hide(const std::string& dir, const mover::ProcessId& process, const mover::MapNotes* notes) {
  DVS_ASSIGN(const std::string smaps, mover::read_smaps(process.host_pid, notes));
  DVS_ASSIGN(const mover::MemoryMap map, mover::parse_memory_map(smaps));
  const PageRanges movable = mover::movable(map);
  DVS_TRY(replace_file(file_of(dir, kMapFile, process.dc_pid), smaps));
  return replace_file(file_of(dir, kMovableFile, process.dc_pid), mover::as_bytes(movable));
}

Status check(const std::string& dir, const mover::ProcessId& process) {
  const std::string movable_file = file_of(dir, kMovableFile, process.dc_pid);
  DVS_ASSIGN(const std::string list, read_file(movable_file));
  const PageRanges movable = mover::from_bytes(list);
  DVS_ASSIGN(const std::string image,
             read_file(dir + "/pagemap-" + std::to_string(process.dc_pid) + ".img"));
  DVS_ASSIGN(const PageRanges dumped, dumped_pages(image));
  ::unlink(movable_file.c_str());
  ::unlink(file_of(dir, kMapFile, process.dc_pid).c_str());
  if (mover::intersect(dumped, movable).empty()) return {};
  return Error(Code::kUnsupported, "criu does not leave memory out that it shall not carry");
}

}  // namespace

Status hide_movable_memory(const std::string& dir, const std::vector<mover::ProcessId>& processes,
                           const NotesOfProcesses& notes) {
  for (const mover::ProcessId& process : processes) {
    const auto noted = notes.find(process.host_pid);
    DVS_TRY(hide(dir, process, noted == notes.end() ? nullptr : &noted->second));
  }
  return {};
}

Status check_hidden(const std::string& dir, const std::vector<mover::ProcessId>& processes) {
  for (const mover::ProcessId& process : processes) {
    if (Status done = check(dir, process); !done.ok()) {
      return done.error().context("process " + std::to_string(process.dc_pid));
    }
  }
  return {};
}

}  // namespace dvs
