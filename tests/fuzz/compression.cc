// The body of a compressed frame, whose checksum was right.
#include "wire/compression.h"

#include "fuzz/target.h"
#include "wire/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto body = dvs::fuzz::text_of(data, size);
  const auto whole = dvs::wire::decompress(body, dvs::wire::kMaxBody);
  if (whole.ok()) dvs::fuzz::must(whole->size() <= dvs::wire::kMaxBody);
  return 0;
}
