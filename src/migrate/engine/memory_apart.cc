#include "migrate/engine/memory_apart.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/file.h"
#include "base/unique_fd.h"
#include "criu_images.pb.h"
#include "mover/memory_map.h"
#include "mover/reader.h"

namespace dvs {
namespace {

using criu_images::PagemapEntry;
using mover::kPageSize;
using mover::PageRange;
using mover::PageRanges;

constexpr uint32_t kImageMagic = 0x54564319;
constexpr uint32_t kPagemapMagic = 0x56084025;
constexpr uint32_t kInventoryMagic = 0x58313116;

// Of a PagemapEntry.
constexpr uint32_t kInEarlierDump = 1 << 0;
constexpr uint32_t kFollows = 1 << 1;  // "lazy"
constexpr uint32_t kPresent = 1 << 2;

constexpr uint64_t kBytesAtOnce = 1 << 20;

void put(std::string& image, uint32_t number) {
  image.append(reinterpret_cast<const char*>(&number), sizeof number);
}

void put(std::string& image, const google::protobuf::MessageLite& message) {
  put(image, static_cast<uint32_t>(message.ByteSizeLong()));
  message.AppendToString(&image);
}

std::string pagemap_path(const std::string& dir, pid_t pid) {
  return dir + "/pagemap-" + std::to_string(pid) + ".img";
}

std::string pages_path(const std::string& dir, uint32_t id) {
  return dir + "/pages-" + std::to_string(id) + ".img";
}

PagemapEntry make_entry(PageRange range, uint32_t flags) {
  PagemapEntry entry;
  entry.set_vaddr(range.start);
  const uint64_t pages = range.size() / kPageSize;
  entry.set_compat_nr_pages(static_cast<uint32_t>(pages));
  entry.set_nr_pages(pages);
  entry.set_flags(flags);
  return entry;
}

struct Pagemap {
  uint32_t pages_id = 0;
  std::vector<PagemapEntry> entries;
};

std::string encode(const Pagemap& pagemap) {
  std::string image;
  put(image, kImageMagic);
  put(image, kPagemapMagic);
  criu_images::PagemapHead head;
  head.set_pages_id(pagemap.pages_id);
  put(image, head);
  for (const PagemapEntry& entry : pagemap.entries) put(image, entry);
  return image;
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

Result<Pagemap> decode(const std::string& image) {
  const Error corrupt(Code::kCorrupt, "this criu writes page maps that we do not know");
  ImageReader reader(image);
  Pagemap pagemap;
  criu_images::PagemapHead head;
  if (reader.number() != kImageMagic || reader.number() != kPagemapMagic || !reader.message(head)) {
    return corrupt;
  }
  pagemap.pages_id = head.pages_id();
  while (!reader.empty()) {
    PagemapEntry entry;
    if (!reader.message(entry) || !sane(entry)) return corrupt;
    pagemap.entries.push_back(std::move(entry));
  }
  return pagemap;
}

// smaps, which walks all page tables, only when some memory is locked.
Result<PageRanges> movable_memory(pid_t pid) {
  DVS_ASSIGN(const std::string status, read_file("/proc/" + std::to_string(pid) + "/status"));
  const bool locked = status.find("\nVmLck:\t       0 kB") == std::string::npos;
  DVS_ASSIGN(const mover::MemoryMap map,
             read_memory_map(pid, locked ? mover::MapDetail::kSmaps : mover::MapDetail::kMaps));
  return mover::movable(map);
}

Status write_all(const UniqueFd& file, const char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(file.get(), bytes, size);
    if (written < 0) return errno_error("cannot write an image");
    bytes += written;
    size -= static_cast<size_t>(written);
  }
  return {};
}

// One process's page map, completed entry by entry, with a new file of pages.
class Completion {
 public:
  Completion(const mover::Reader& reader, PageRanges movable, UniqueFd old_pages,
             UniqueFd new_pages)
      : reader_(reader),
        movable_(std::move(movable)),
        old_pages_(std::move(old_pages)),
        new_pages_(std::move(new_pages)) {}

  Result<std::vector<PagemapEntry>> run(const std::vector<PagemapEntry>& entries) {
    for (const PagemapEntry& entry : entries) {
      const PageRange range{entry.vaddr(), entry.vaddr() + entry.nr_pages() * kPageSize};
      DVS_TRY((entry.flags() & kInEarlierDump) != 0 ? take_hole(range) : take_pages(range, entry));
    }
    return std::move(done_);
  }

 private:
  // What criu has dumped itself.
  Status take_pages(PageRange range, const PagemapEntry& entry) {
    done_.push_back(entry);
    if ((entry.flags() & kPresent) == 0) return {};
    for (uint64_t left = range.size(); left > 0;) {
      buffer_.resize(std::min(left, kBytesAtOnce));
      const ssize_t size = ::read(old_pages_.get(), buffer_.data(), buffer_.size());
      if (size <= 0) return Error(Code::kCorrupt, "criu's file of pages is too short");
      DVS_TRY(write_all(new_pages_, buffer_.data(), static_cast<size_t>(size)));
      left -= static_cast<uint64_t>(size);
    }
    return {};
  }

  // What it has passed over.
  Status take_hole(PageRange hole) {
    const PageRanges lazy = mover::intersect({hole}, movable_);
    const PageRanges rest = mover::subtract({hole}, lazy);
    std::vector<std::pair<PageRange, uint32_t>> parts;
    for (const PageRange& range : lazy) parts.emplace_back(range, kFollows);
    for (const PageRange& range : rest) parts.emplace_back(range, kPresent);
    std::sort(parts.begin(), parts.end(),
              [](const auto& a, const auto& b) { return a.first.start < b.first.start; });
    for (const auto& [range, flags] : parts) {
      done_.push_back(make_entry(range, flags));
      if (flags == kPresent) DVS_TRY(read_pages(range));
    }
    return {};
  }

  Status read_pages(PageRange range) {
    for (uint64_t at = range.start; at < range.end; at += buffer_.size()) {
      buffer_.resize(std::min(range.end - at, kBytesAtOnce));
      DVS_ASSIGN(const PageRanges gone, reader_.read({{at, at + buffer_.size()}}, buffer_.data()));
      if (!gone.empty()) return Error(Code::kInternal, "memory of a frozen process has gone");
      DVS_TRY(write_all(new_pages_, buffer_.data(), buffer_.size()));
    }
    return {};
  }

  const mover::Reader& reader_;
  const PageRanges movable_;
  const UniqueFd old_pages_;
  const UniqueFd new_pages_;
  std::vector<PagemapEntry> done_;
  std::string buffer_;
};

Status complete(const std::string& dir, const mover::ProcessId& process) {
  const std::string path = pagemap_path(dir, process.dc_pid);
  DVS_ASSIGN(const std::string image, read_file(path));
  DVS_ASSIGN(Pagemap pagemap, decode(image));
  DVS_ASSIGN(const mover::Reader reader, mover::Reader::open(process.host_pid));
  DVS_ASSIGN(PageRanges movable, movable_memory(process.host_pid));
  const std::string pages = pages_path(dir, pagemap.pages_id);
  const std::string fresh = dir + "/pages.new";
  UniqueFd old_pages(::open(pages.c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd new_pages(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!new_pages.valid()) return errno_error("cannot create " + fresh);
  Completion completion(reader, std::move(movable), std::move(old_pages), std::move(new_pages));
  DVS_ASSIGN(pagemap.entries, completion.run(pagemap.entries));
  if (::rename(fresh.c_str(), pages.c_str()) != 0) return errno_error("cannot rename " + fresh);
  return replace_file(path, encode(pagemap));
}

}  // namespace

Status make_earlier_dump(const std::string& dir, const std::vector<mover::ProcessId>& processes) {
  const std::string earlier = dir + "/" + kEarlierDump;
  DVS_TRY(make_dirs(earlier));
  criu_images::Inventory inventory;
  inventory.set_img_version(2);
  inventory.set_dump_uptime(1ull << 62);  // after any process has started
  std::string image;
  put(image, kInventoryMagic);
  put(image, inventory);
  DVS_TRY(replace_file(earlier + "/inventory.img", image));
  constexpr uint32_t kPagesId = 1;
  DVS_TRY(replace_file(pages_path(earlier, kPagesId), ""));
  const std::string all = encode({kPagesId, {make_entry({0, mover::kAddressLimit}, kPresent)}});
  for (const mover::ProcessId& process : processes) {
    DVS_TRY(replace_file(pagemap_path(earlier, process.dc_pid), all));
  }
  return {};
}

Status complete_images(const std::string& dir, const std::vector<mover::ProcessId>& processes) {
  for (const mover::ProcessId& process : processes) {
    if (Status done = complete(dir, process); !done.ok()) {
      return done.error().context("process " + std::to_string(process.dc_pid));
    }
  }
  return remove_tree(dir + "/" + kEarlierDump);
}

}  // namespace dvs
