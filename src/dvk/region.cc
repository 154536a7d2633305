#include "dvk/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <climits>
#include <cstring>
#include <new>
#include <utility>

#include "base/unique_fd.h"

namespace dvs::dvk {
namespace {

size_t align64(size_t size) { return (size + 63) & ~size_t{63}; }

size_t descriptors_offset() { return align64(sizeof(RegionHeader)); }
size_t sets_offset(uint32_t slots) { return descriptors_offset() + slots * sizeof(Descriptor); }
size_t region_size(uint32_t slots) {
  const size_t set_bytes = SlotSet::size_in_words(slots) * sizeof(uint64_t);
  return align64(sets_offset(slots) + (size_t{slots} * 2 + 1) * set_bytes);
}

template <size_t N>
void copy_name(char (&to)[N], const std::string& from) {
  std::strncpy(to, from.c_str(), N - 1);
}

constexpr uint64_t bit(uint32_t index) { return uint64_t{1} << (index % 64); }

}  // namespace

void SlotSet::set(uint32_t slot) {
  words_[slot / 64].fetch_or(bit(slot));
  summary_[slot / 64 / 64].fetch_or(bit(slot / 64));
}

void SlotSet::clear(uint32_t slot) { words_[slot / 64].fetch_and(~bit(slot)); }

bool SlotSet::test(uint32_t slot) const { return (words_[slot / 64].load() & bit(slot)) != 0; }

uint32_t SlotSet::find(uint32_t from) const {
  if (from >= slots_) from = 0;
  const uint32_t found = find_in(from, slots_);
  if (found < slots_ || from == 0) return found;
  const uint32_t wrapped = find_in(0, from);
  return wrapped < from ? wrapped : slots_;
}

uint32_t SlotSet::find_in(uint32_t begin, uint32_t end) const {
  const uint32_t last_word = (end - 1) / 64;
  for (uint32_t word = begin / 64; word <= last_word; ++word) {
    const uint64_t hints = summary_[word / 64].load() >> (word % 64);
    if (hints == 0) {
      word |= 63;  // nothing in the rest of this summary word
      continue;
    }
    word += static_cast<uint32_t>(__builtin_ctzll(hints));
    if (word > last_word) break;
    const uint64_t all = words_[word].load();
    if (all == 0) {
      // Drop the stale hint; a setter that came in between sets its summary bit after its word.
      summary_[word / 64].fetch_and(~bit(word));
      if (words_[word].load() != 0) summary_[word / 64].fetch_or(bit(word));
      continue;
    }
    uint64_t members = all;
    if (word == begin / 64) members &= ~uint64_t{0} << (begin % 64);
    if (members == 0) continue;
    const uint32_t slot = word * 64 + static_cast<uint32_t>(__builtin_ctzll(members));
    return slot < end ? slot : slots_;
  }
  return slots_;
}

void SlotSet::repair() {
  for (uint32_t word = 0; word < word_count(slots_); ++word) {
    if (words_[word].load() != 0) summary_[word / 64].fetch_or(bit(word));
  }
}

Region::Region(Region&& other) noexcept { *this = std::move(other); }

Region& Region::operator=(Region&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  std::swap(slots_, other.slots_);
  std::swap(tasks_, other.tasks_);
  std::swap(sysprocs_, other.sysprocs_);
  std::swap(descriptors_, other.descriptors_);
  std::swap(sets_, other.sets_);
  return *this;
}

Region::~Region() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

Result<Region> Region::map(int fd, size_t size) {
  const int flags = fd >= 0 ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
  void* base = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (base == MAP_FAILED) return errno_error("cannot map the region");
  Region region;
  region.base_ = static_cast<std::byte*>(base);
  region.size_ = size;
  return region;
}

Status check_spec(const RegionSpec& spec) {
  if (spec.slots < 128 || spec.slots > kMaxSlots) {
    return Error(Code::kInvalid, "a DC has between 128 and " + std::to_string(kMaxSlots) +
                                     " endpoints, not " + std::to_string(spec.slots));
  }
  if (spec.tasks > 64 || spec.sysprocs < spec.tasks || spec.sysprocs >= spec.slots) {
    return Error(Code::kInvalid, "the numbers of tasks, servers and endpoints do not fit together");
  }
  return {};
}

namespace {

void fill_header(RegionHeader& header, const RegionSpec& spec) {
  header.version = kRegionVersion;
  header.size_of_descriptor = sizeof(Descriptor);
  header.total_size = region_size(spec.slots);
  header.slots = spec.slots;
  header.tasks = spec.tasks;
  header.sysprocs = spec.sysprocs;
  header.dcid = spec.dcid;
  header.local_node = spec.local_node;
  header.max_copy_bytes = MAXCOPYLEN;
  header.copy_chunk = kCopyWindow;
  copy_name(header.dc_name, spec.dc_name);
  copy_name(header.cluster, spec.cluster);
  header.warn_endpoint.store(NONE);
}

}  // namespace

Status Region::adopt_header() {
  const RegionHeader& header = this->header();
  const uint32_t slots = header.slots;
  RegionSpec spec;
  spec.slots = slots;
  spec.tasks = header.tasks;
  spec.sysprocs = header.sysprocs;
  if (header.magic != kRegionMagic || header.version != kRegionVersion ||
      header.size_of_descriptor != sizeof(Descriptor) || !check_spec(spec).ok() ||
      region_size(slots) != size_) {
    return Error(Code::kCorrupt, "not a region of this version");
  }
  slots_ = slots;
  tasks_ = spec.tasks;
  sysprocs_ = spec.sysprocs;
  descriptors_ = reinterpret_cast<Descriptor*>(base_ + descriptors_offset());
  sets_ = reinterpret_cast<Atomic<uint64_t>*>(base_ + sets_offset(slots));
  return {};
}

namespace {

// A new mapping is all zeros, which is what every descriptor, set and control slot starts as: all
// that is left to do is the header, its magic last.
void format(RegionHeader& header, const RegionSpec& spec) {
  fill_header(header, spec);
  std::atomic_thread_fence(kOrdered);
  header.magic = kRegionMagic;
}

}  // namespace

Result<Region> Region::create(const std::string& path, const RegionSpec& spec) {
  DVS_TRY(check_spec(spec));
  const std::string temporary = path + ".new";
  ::unlink(temporary.c_str());
  UniqueFd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!fd.valid()) return errno_error("cannot create " + temporary);
  ::fchmod(fd.get(), 0666);
  const size_t size = region_size(spec.slots);
  // Allocated now: a full tmpfs is an error here and not a SIGBUS in some process later.
  if (int err = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(size)); err != 0) {
    ::unlink(temporary.c_str());
    return errno_error("cannot allocate " + std::to_string(size) + " bytes for " + path, err);
  }
  DVS_ASSIGN(Region region, map(fd.get(), size));
  format(region.header(), spec);
  DVS_TRY(region.adopt_header());
  if (::rename(temporary.c_str(), path.c_str()) != 0) return errno_error("cannot create " + path);
  return region;
}

Result<Region> Region::open(const std::string& path) {
  // (The DC's processes may put what they like there.)
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return errno_error("cannot open " + path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_error("cannot stat " + path);
  const auto size = static_cast<size_t>(info.st_size);
  if (size < sizeof(RegionHeader) || size > region_size(kMaxSlots)) {
    return Error(Code::kCorrupt, path + " is not a region: its size is wrong");
  }
  DVS_ASSIGN(Region region, map(fd.get(), size));
  if (Status adopted = region.adopt_header(); !adopted.ok()) return adopted.error().context(path);
  return region;
}

Result<Region> Region::anonymous(const RegionSpec& spec) {
  DVS_TRY(check_spec(spec));
  DVS_ASSIGN(Region region, map(-1, region_size(spec.slots)));
  format(region.header(), spec);
  DVS_TRY(region.adopt_header());
  return region;
}

uint32_t Region::slot_of(int endpoint) const {
  if (endpoint == ANY || endpoint == NONE || endpoint == SELF) return slots_;
  if (endpoint < -NR_TASKS || endpoint > INT_MAX - NR_TASKS) return slots_;
  const int number = _ENDPOINT_P(endpoint);
  const int64_t slot = int64_t{number} + tasks_;
  return slot >= 0 && slot < slots_ ? static_cast<uint32_t>(slot) : slots_;
}

bool Region::names(int endpoint, uint32_t slot) const {
  const Descriptor& descriptor = at(slot);
  const auto kind = static_cast<Kind>(descriptor.kind.load());
  if (kind == Kind::kFree || kind == Kind::kEnded) return false;
  if (descriptor.endpoint.load() == endpoint) return true;
  return is_user(slot) && _ENDPOINT_G(endpoint) == 0;
}

void Region::ring(uint32_t slot) const {
  outbound().set(slot);
  ring_doorbell();
}

}  // namespace dvs::dvk
