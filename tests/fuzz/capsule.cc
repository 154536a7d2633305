// A capsule from another node, and what it does to the region that takes it in.
#include "dvk/capsule.h"

#include "dvk/node_view.h"
#include "fuzz/target.h"

namespace dvs::fuzz {
namespace {

constexpr uint32_t kSlots = 128;

dvk::Region new_region() {
  dvk::RegionSpec spec;
  spec.slots = kSlots;
  spec.local_node = 1;
  auto region = dvk::Region::anonymous(spec);
  must(region.ok());
  // Somebody here whom a capsule may speak of.
  dvk::Identity client{6, 1, 1, 1, dvk::Kind::kLocal, 100, 100, "client"};
  must(dvk::bind(*region, region->slot_of(client.endpoint), client));
  return std::move(*region);
}

}  // namespace
}  // namespace dvs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace dvs;
  const auto capsule = dvk::decode_capsule(fuzz::text_of(data, size), fuzz::kSlots);
  if (!capsule.ok()) return 0;
  const std::string encoded = dvk::encode_capsule(*capsule);
  const auto again = dvk::decode_capsule(encoded, fuzz::kSlots);
  fuzz::must(again.ok() && dvk::encode_capsule(*again) == encoded);
  const dvk::Region region = fuzz::new_region();
  static_cast<void>(dvk::commit_here(region, *capsule, 1, 2));
  return 0;
}
