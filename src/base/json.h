// JSON that came from outside: parsing and typed look-ups that give Errors, never exceptions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dvs {

using Json = nlohmann::json;

Result<Json> parse_json(std::string_view text);

// The JSON as text, on one line. Bytes that are no UTF-8 (a program's name, an error's text) are
// replaced: Json::dump() would throw.
std::string to_text(const Json& json);

// The member `key` of object `object` as T (bool, integers with range check, double, string,
// Json, std::vector of those); kInvalid naming the key when it is missing or of another type.
template <typename T>
Result<T> json_get(const Json& object, const char* key);

// The same, with a default when the key is missing (a wrong type is still an error).
template <typename T>
Result<T> json_get_or(const Json& object, const char* key, T fallback) {
  if (!object.is_object() || !object.contains(key)) return fallback;
  return json_get<T>(object, key);
}

// An Error as JSON {"code": "not_found", "message": "..."} and back.
Json error_to_json(const Error& error);
Error error_from_json(const Json& json);

}  // namespace dvs
