// JSON of others: a node's hello, the records of the directory, etcd's answers. The first byte
// chooses what the rest is.
#include "directory/records.h"

#include "base/base64.h"
#include "directory/etcd_json.h"
#include "fuzz/target.h"
#include "proxy/link_hello.h"

namespace dvs::fuzz {
namespace {

// What was read can be written, and means the same then.
template <typename Parse>
void round_trip(const std::string& text, Parse parse) {
  const auto record = parse(text);
  if (!record.ok()) return;
  const std::string written = to_json(*record).dump();
  const auto again = parse(written);
  must(again.ok() && to_json(*again).dump() == written);
}

void hello(const std::string& text) {
  const auto read = check_hello(text, "lab", 1);
  if (!read.ok()) return;
  const auto again = check_hello(encode_hello(*read), "lab", 1);
  must(again.ok() && encode_hello(*again) == encode_hello(*read));
}

void etcd_answer(const std::string& text) {
  for (unsigned status : {200u, 404u, 503u}) {
    const auto answer = etcd::parse_answer(status, text);
    if (!answer.ok()) continue;
    if (const auto txn = etcd::decode_txn(*answer); txn.ok()) must(txn->revision > 0);
    if (const auto range = etcd::decode_range(*answer); range.ok()) must(range->revision > 0);
    if (const auto lease = etcd::decode_lease_grant(*answer); lease.ok()) must(*lease != 0);
    if (const auto ttl = etcd::decode_keep_alive(*answer); ttl.ok()) must(ttl->count() > 0);
  }
  const auto update = etcd::decode_watch_update(text);
  if (update.ok()) must(update->canceled || update->revision > 0);
}

void one(int what, const std::string& text) {
  switch (what % 8) {
    case 0:
      return hello(text);
    case 1:
      return round_trip(text, node_record);
    case 2:
      return round_trip(text, dc_record);
    case 3:
      return round_trip(text, part_record);
    case 4:
      return round_trip(text, endpoint_record);
    case 5:
      return round_trip(text, migration_record);
    case 6:
      return etcd_answer(text);
    default: {
      const auto bytes = base64_decode(text);
      if (bytes.ok()) must(base64_decode(base64_encode(*bytes)).value() == *bytes);
    }
  }
}

}  // namespace
}  // namespace dvs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  dvs::fuzz::one(data[0], std::string(dvs::fuzz::text_of(data + 1, size - 1)));
  return 0;
}
