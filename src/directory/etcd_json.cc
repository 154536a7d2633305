#include "directory/etcd_json.h"

#include <algorithm>
#include <charconv>

#include "base/base64.h"

namespace dvs::etcd {
namespace {

Error corrupt(std::string_view what) {
  return Error(Code::kCorrupt, "etcd's answer makes no sense: " + std::string(what));
}

// A 64-bit integer, which the gateway writes as a string; 0 when it is left out.
Result<int64_t> int_member(const Json& object, const char* key) {
  if (!object.is_object()) return corrupt("no object");
  const auto found = object.find(key);
  if (found == object.end()) return int64_t{0};
  if (!found->is_string()) return corrupt(std::string(key) + " is no number in a string");
  const auto& text = found->get_ref<const std::string&>();
  int64_t value = 0;
  const auto [stop, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || stop != text.data() + text.size()) {
    return corrupt(std::string(key) + " is no number");
  }
  return value;
}

Result<bool> bool_member(const Json& object, const char* key) {
  auto value = json_get_or<bool>(object, key, false);
  if (!value.ok()) return corrupt(value.error().message());
  return value;
}

Result<std::string> bytes_member(const Json& object, const char* key) {
  auto text = json_get_or<std::string>(object, key, {});
  if (!text.ok()) return corrupt(text.error().message());
  return base64_decode(*text);
}

Result<std::vector<Json>> list_member(const Json& object, const char* key) {
  auto list = json_get_or<std::vector<Json>>(object, key, {});
  if (!list.ok()) return corrupt(list.error().message());
  return list;
}

// The store's revision, which every answer carries and which is never 0.
Result<int64_t> header_revision(const Json& answer) {
  const auto header = answer.find("header");
  if (header == answer.end()) return corrupt("no header");
  DVS_ASSIGN(const int64_t revision, int_member(*header, "revision"));
  if (revision <= 0) return corrupt("no revision");
  return revision;
}

Result<KeyValue> decode_key_value(const Json& json) {
  KeyValue kv;
  DVS_ASSIGN(kv.mod_revision, int_member(json, "mod_revision"));
  DVS_ASSIGN(kv.create_revision, int_member(json, "create_revision"));
  DVS_ASSIGN(kv.lease, int_member(json, "lease"));
  DVS_ASSIGN(kv.key, bytes_member(json, "key"));
  DVS_ASSIGN(kv.value, bytes_member(json, "value"));
  if (kv.mod_revision <= 0 || kv.key.empty()) return corrupt("a key without name or revision");
  return kv;
}

// The members that name all keys with a prefix. etcd takes no empty key: "\0" is the first one.
Json encode_prefix(const std::string& prefix) {
  const std::string first = prefix.empty() ? std::string(1, '\0') : prefix;
  return {{"key", base64_encode(first)}, {"range_end", base64_encode(prefix_end(prefix))}};
}

Json encode_compare(const Compare& compare) {
  Json json = {{"key", base64_encode(compare.key)}, {"result", "EQUAL"}};
  switch (compare.what) {
    case Compare::What::kCreateRevision:
      json["target"] = "CREATE";
      json["create_revision"] = std::to_string(compare.revision);
      break;
    case Compare::What::kModRevision:
      json["target"] = "MOD";
      json["mod_revision"] = std::to_string(compare.revision);
      break;
    case Compare::What::kValue:
      json["target"] = "VALUE";
      json["value"] = base64_encode(compare.value);
      break;
    case Compare::What::kUnchangedBelow:
      json.update(encode_prefix(compare.key));
      json["result"] = "LESS";
      json["target"] = "MOD";
      json["mod_revision"] = std::to_string(compare.revision + 1);
      break;
  }
  return json;
}

Json encode_change(const Change& change) {
  switch (change.what) {
    case Change::What::kDelete:
      return {{"request_delete_range", {{"key", base64_encode(change.key)}}}};
    case Change::What::kDeletePrefix:
      return {{"request_delete_range", encode_prefix(change.key)}};
    case Change::What::kPut:
      break;
  }
  return {{"request_put",
           {{"key", base64_encode(change.key)},
            {"value", base64_encode(change.value)},
            {"lease", std::to_string(change.lease)}}}};
}

// What a gRPC status means to the caller of a Store.
Code code_of_grpc(int grpc_code) {
  switch (grpc_code) {
    case 3:  // INVALID_ARGUMENT
      return Code::kInvalid;
    case 4:  // DEADLINE_EXCEEDED
      return Code::kTimeout;
    case 5:   // NOT_FOUND: a lease
    case 11:  // OUT_OF_RANGE: compacted
      return Code::kNotFound;
    case 7:   // PERMISSION_DENIED
    case 16:  // UNAUTHENTICATED
      return Code::kDenied;
    case 8:  // RESOURCE_EXHAUSTED: database full
      return Code::kNoSpace;
    case 9:  // FAILED_PRECONDITION
      return Code::kConflict;
    default:  // UNAVAILABLE and what etcd did not expect itself: the outcome is unknown
      return Code::kUnavailable;
  }
}

// {"error": "text", "code": 5}, or in a stream {"error": {"grpc_code": 5, "message": "text"}}.
Error decode_error(const Json& answer) {
  const Json& error = answer.at("error");
  const bool streamed = error.is_object();
  const auto code = streamed ? json_get<int>(error, "grpc_code") : json_get<int>(answer, "code");
  const auto text =
      streamed ? json_get<std::string>(error, "message") : json_get<std::string>(answer, "error");
  return Error(code_of_grpc(code.ok() ? *code : 2),
               "etcd: " + (text.ok() ? *text : to_text(error)));
}

// The object in {"result": object} of a stream.
Result<Json> stream_result(const Json& answer) {
  if (answer.contains("error")) return decode_error(answer);
  auto result = json_get<Json>(answer, "result");
  if (!result.ok() || !result->is_object()) return corrupt("no result");
  return result;
}

Result<WatchEvent> decode_event(const Json& json) {
  WatchEvent event;
  const auto type = json_get_or<std::string>(json, "type", "PUT");
  if (!type.ok() || (*type != "PUT" && *type != "DELETE")) return corrupt("an unknown event");
  if (*type == "DELETE") event.what = WatchEvent::What::kDelete;
  const auto kv = json_get<Json>(json, "kv");
  if (!kv.ok()) return corrupt("an event without a key");
  DVS_ASSIGN(event.kv, decode_key_value(*kv));
  return event;
}

Status decode_events(const Json& result, std::vector<WatchEvent>* events) {
  DVS_ASSIGN(const auto list, list_member(result, "events"));
  for (const Json& item : list) {
    DVS_ASSIGN(WatchEvent event, decode_event(item));
    if (!events->empty() && events->back().kv.mod_revision > event.kv.mod_revision) {
      return corrupt("events out of order");
    }
    events->push_back(std::move(event));
  }
  return {};
}

}  // namespace

std::string prefix_end(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  if (prefix.empty()) return std::string(1, '\0');
  prefix.back() = static_cast<char>(static_cast<unsigned char>(prefix.back()) + 1);
  return prefix;
}

std::string encode_txn(const std::vector<Compare>& compares, const std::vector<Change>& changes) {
  Json json = {{"compare", Json::array()}, {"success", Json::array()}};
  for (const Compare& compare : compares) json["compare"].push_back(encode_compare(compare));
  for (const Change& change : changes) json["success"].push_back(encode_change(change));
  return to_text(json);
}

std::string encode_range(const std::string& prefix) { return to_text(encode_prefix(prefix)); }

std::string encode_lease_grant(std::chrono::seconds ttl) {
  return to_text(Json({{"TTL", std::to_string(ttl.count())}}));
}

std::string encode_lease(int64_t lease) { return to_text(Json({{"ID", std::to_string(lease)}})); }

std::string encode_watch(const std::string& prefix, int64_t first_revision) {
  // Without "fragment" etcd never splits a revision's events over two answers.
  Json create = encode_prefix(prefix);
  create["start_revision"] = std::to_string(first_revision);
  create["progress_notify"] = true;
  return to_text(Json({{"create_request", std::move(create)}}));
}

Result<Json> parse_answer(unsigned http_status, std::string_view body) {
  auto answer = parse_json(body);
  if (answer.ok() && answer->is_object()) {
    if (http_status == 200) return answer;
    if (answer->contains("error")) return decode_error(*answer);
  }
  const Code code = http_status >= 500 ? Code::kUnavailable : Code::kCorrupt;
  return Error(code, "etcd's answer with status " + std::to_string(http_status) +
                         " makes no sense: '" + std::string(body.substr(0, 80)) + "'");
}

Result<TxnResult> decode_txn(const Json& answer) {
  TxnResult result;
  DVS_ASSIGN(result.revision, header_revision(answer));
  DVS_ASSIGN(result.applied, bool_member(answer, "succeeded"));
  return result;
}

Result<RangeResult> decode_range(const Json& answer) {
  RangeResult result;
  DVS_ASSIGN(result.revision, header_revision(answer));
  DVS_ASSIGN(const auto list, list_member(answer, "kvs"));
  for (const Json& item : list) {
    DVS_ASSIGN(KeyValue kv, decode_key_value(item));
    result.items.push_back(std::move(kv));
  }
  return result;
}

Result<int64_t> decode_lease_grant(const Json& answer) {
  DVS_ASSIGN(const int64_t lease, int_member(answer, "ID"));
  if (lease == 0) return corrupt("a lease without an id");
  return lease;
}

Result<std::chrono::seconds> decode_keep_alive(const Json& answer) {
  DVS_ASSIGN(const Json result, stream_result(answer));
  DVS_ASSIGN(const int64_t ttl, int_member(result, "TTL"));
  if (ttl <= 0) return Error(Code::kNotFound, "the lease has expired");
  return std::chrono::seconds(ttl);
}

Result<WatchUpdate> decode_watch_update(std::string_view line) {
  DVS_ASSIGN(const Json answer, parse_json(line));
  DVS_ASSIGN(const Json result, stream_result(answer));
  WatchUpdate update;
  DVS_ASSIGN(update.created, bool_member(result, "created"));
  DVS_ASSIGN(update.canceled, bool_member(result, "canceled"));
  DVS_ASSIGN(update.compact_revision, int_member(result, "compact_revision"));
  DVS_TRY(decode_events(result, &update.events));
  if (update.canceled) return update;  // its header may lack the revision
  DVS_ASSIGN(update.revision, header_revision(result));
  return update;
}

}  // namespace dvs::etcd
