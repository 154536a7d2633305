// A mapped region: finds its way in the layout of dvk/layout.h. Used by applications (libdvk)
// and by dvsd. What the mapping's size and counts are is copied out of the header once, when it is
// opened and checked: later nonsense in the header cannot lead outside the mapping.
#pragma once

#include <string>

#include "base/result.h"
#include "dvk/futex.h"
#include "dvk/layout.h"

namespace dvs::dvk {

// Where a process of a DC finds its region: the same path on every node.
constexpr const char* kRegionPath = "/run/dvs/dc/region";

// A set of slots in shared memory: 64 bits a word, with a summary bit per word so that an almost
// empty set is searched quickly. Any party may set and clear bits at any time; a crash between two
// stores leaves at worst a bit that its word shows and the summary does not, and dvsd's
// repair() mends that.
class SlotSet {
 public:
  SlotSet(Atomic<uint64_t>* words, uint32_t slots)
      : words_(words), summary_(words + word_count(slots)), slots_(slots) {}

  void set(uint32_t slot);
  void clear(uint32_t slot);
  bool test(uint32_t slot) const;
  // The first member at or after `from`, wrapping around; `slots` when the set is empty.
  uint32_t find(uint32_t from) const;
  void repair();

  static uint32_t word_count(uint32_t slots) { return (slots + 63) / 64; }
  static uint32_t size_in_words(uint32_t slots) {
    return word_count(slots) + word_count(word_count(slots));
  }

 private:
  uint32_t find_in(uint32_t begin, uint32_t end) const;

  Atomic<uint64_t>* words_;
  Atomic<uint64_t>* summary_;
  uint32_t slots_;
};

struct RegionSpec {
  uint32_t slots = 1024;  // tasks + processes; 128 .. kMaxSlots
  uint32_t tasks = NR_TASKS;
  uint32_t sysprocs = 64;
  int dcid = 0;
  uint32_t local_node = 0;
  std::string dc_name;
  std::string cluster;
};

// kInvalid: the numbers do not fit together.
Status check_spec(const RegionSpec& spec);

class Region {
 public:
  Region() = default;
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  // dvsd: makes a new region file (mode 0666: the DC's processes, and only they, can reach it).
  static Result<Region> create(const std::string& path, const RegionSpec& spec);
  // Maps an existing one after checking it. kCorrupt: it is not a region, or a broken one.
  static Result<Region> open(const std::string& path);
  // A region without a file, for tests.
  static Result<Region> anonymous(const RegionSpec& spec);

  bool mapped() const { return base_ != nullptr; }
  size_t size() const { return size_; }  // bytes
  uint32_t slots() const { return slots_; }
  uint32_t tasks() const { return tasks_; }
  uint32_t sysprocs() const { return sysprocs_; }
  RegionHeader& header() const { return *reinterpret_cast<RegionHeader*>(base_); }

  // REQUIRES: slot < slots().
  Descriptor& at(uint32_t slot) const { return descriptors_[slot]; }
  SlotSet senders(uint32_t slot) const { return set_at(slot * 2); }
  SlotSet notifies(uint32_t slot) const { return set_at(slot * 2 + 1); }
  SlotSet outbound() const { return set_at(slots_ * 2); }

  // The slot of an endpoint; slots() when it is out of range or no endpoint at all. Says nothing
  // about who is bound there.
  uint32_t slot_of(int endpoint) const;
  int number_of(uint32_t slot) const { return static_cast<int>(slot) - static_cast<int>(tasks_); }
  // Whether `endpoint` names what is in `slot` now (a user slot's generation 0 names anybody).
  bool names(int endpoint, uint32_t slot) const;
  bool is_user(uint32_t slot) const { return slot >= sysprocs_; }

  // Tells dvsd to look at a slot.
  void ring(uint32_t slot) const;
  void ring_doorbell() const { event_signal(header().doorbell); }

 private:
  static Result<Region> map(int fd, size_t size);
  Status adopt_header();
  SlotSet set_at(uint32_t index) const {
    return {sets_ + static_cast<size_t>(index) * SlotSet::size_in_words(slots_), slots_};
  }

  std::byte* base_ = nullptr;
  size_t size_ = 0;
  uint32_t slots_ = 0;
  uint32_t tasks_ = 0;
  uint32_t sysprocs_ = 0;
  Descriptor* descriptors_ = nullptr;
  Atomic<uint64_t>* sets_ = nullptr;
};

}  // namespace dvs::dvk
