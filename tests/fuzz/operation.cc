// The body of a frame from another node.
#include "wire/operation.h"

#include "fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto body = dvs::fuzz::text_of(data, size);
  const auto operation = dvs::wire::decode_operation(dvs::Bytes(body));
  if (operation.ok()) dvs::fuzz::must(dvs::wire::encode_operation(*operation) == body);
  return 0;
}
