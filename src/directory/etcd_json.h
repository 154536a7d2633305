// The requests and answers of etcd's v3 JSON gateway as text: no I/O here. In it 64-bit integers
// are strings, keys and values are base64, and members that are 0, false or empty are left out.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "directory/store.h"

namespace dvs::etcd {

// The first key after all those that start with `prefix`, as etcd's range_end wants it ("\0": the
// end of all keys).
std::string prefix_end(std::string prefix);

std::string encode_txn(const std::vector<Compare>& compares, const std::vector<Change>& changes);
std::string encode_range(const std::string& prefix);
std::string encode_lease_grant(std::chrono::seconds ttl);
std::string encode_lease(int64_t lease);  // for keep-alive and revoke
std::string encode_watch(const std::string& prefix, int64_t first_revision);

// The body of an answer, or the error that etcd gave instead, with the code that fits it.
Result<Json> parse_answer(unsigned http_status, std::string_view body);

Result<TxnResult> decode_txn(const Json& answer);
Result<RangeResult> decode_range(const Json& answer);
Result<int64_t> decode_lease_grant(const Json& answer);
Result<std::chrono::seconds> decode_keep_alive(const Json& answer);

// One object of a watch's endless answer.
struct WatchUpdate {
  bool created = false;            // the watch stands
  bool canceled = false;           // etcd ends it
  int64_t compact_revision = 0;    // not 0: because it asks for revisions before this one
  int64_t revision = 0;            // the store's revision when this was sent
  std::vector<WatchEvent> events;  // in the order of their revisions
};
Result<WatchUpdate> decode_watch_update(std::string_view line);

}  // namespace dvs::etcd
