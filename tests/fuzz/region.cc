// A region file whose header and size are as somebody in the DC left them: what is accepted must
// lie within the file. The input: two bytes for the size, then what is written over the header.
#include "dvk/region.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"
#include "fuzz/target.h"

namespace dvs::fuzz {
namespace {

// A good region of 128 slots.
std::string good_region() {
  dvk::RegionSpec spec;
  spec.slots = 128;
  const std::string path = "/dev/shm/dvs-fuzz-region." + std::to_string(::getpid());
  size_t size = 0;
  std::string bytes;
  {
    const auto region = dvk::Region::create(path, spec);
    must(region.ok());
    size = region->header().total_size;
    bytes.assign(reinterpret_cast<const char*>(&region->header()), size);
  }
  ::unlink(path.c_str());
  return bytes;
}

void use(const dvk::Region& region) {
  const uint32_t last = region.slots() - 1;
  region.at(last).tx.store(1);
  for (const dvk::SlotSet& set : {region.senders(last), region.notifies(last), region.outbound()}) {
    dvk::SlotSet each = set;
    each.set(last);
    must(each.test(last) && each.find(last) == last);
    each.clear(last);
    must(each.find(0) == region.slots());
  }
  for (int endpoint : {-NR_TASKS - 1, -NR_TASKS, 0, 1 << 20, 0x7fffffff}) {
    const uint32_t slot = region.slot_of(endpoint);
    must(slot <= region.slots());
    if (slot < region.slots()) region.names(endpoint, slot);
  }
}

}  // namespace
}  // namespace dvs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dvs;
  if (size < 2) return 0;
  static const std::string good = fuzz::good_region();
  std::string bytes = good;
  const size_t wanted = static_cast<size_t>(data[0] | data[1] << 8) * 64;
  if (wanted != 0) bytes.resize(wanted);
  const size_t written = std::min({size - 2, bytes.size(), sizeof(dvk::RegionHeader)});
  std::copy(data + 2, data + 2 + written, bytes.begin());
  const UniqueFd file(::memfd_create("region", 0));
  fuzz::must(file.valid());
  fuzz::must(::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  const auto region = dvk::Region::open("/proc/self/fd/" + std::to_string(file.get()));
  if (region.ok()) fuzz::use(*region);
  return 0;
}
