#include "base/json.h"

#include <limits>
#include <vector>

namespace dvs {
namespace {

template <typename T>
bool fits(const Json& value) {
  if (value.is_number_unsigned()) {
    return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<T>::max());
  }
  if (!value.is_number_integer()) return false;
  const auto number = value.get<int64_t>();
  if constexpr (std::numeric_limits<T>::is_signed) {
    return number >= static_cast<int64_t>(std::numeric_limits<T>::min()) &&
           number <= static_cast<int64_t>(std::numeric_limits<T>::max());
  }
  return number >= 0;
}

template <typename T>
bool has_type(const Json& value) {
  if constexpr (std::is_same_v<T, bool>)
    return value.is_boolean();
  else if constexpr (std::is_same_v<T, std::string>)
    return value.is_string();
  else if constexpr (std::is_same_v<T, double>)
    return value.is_number();
  else if constexpr (std::is_same_v<T, Json>)
    return true;
  else
    return fits<T>(value);
}

template <typename T>
struct Getter {
  static Result<T> get(const Json& value, const char* key) {
    if (!has_type<T>(value)) {
      return Error(Code::kInvalid, std::string("\"") + key + "\" has the wrong type or range");
    }
    return value.get<T>();
  }
};

template <typename E>
struct Getter<std::vector<E>> {
  static Result<std::vector<E>> get(const Json& value, const char* key) {
    if (!value.is_array()) {
      return Error(Code::kInvalid, std::string("\"") + key + "\" is not a list");
    }
    std::vector<E> items;
    for (const auto& item : value) {
      DVS_ASSIGN(E element, Getter<E>::get(item, key));
      items.push_back(std::move(element));
    }
    return items;
  }
};

}  // namespace

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Json> parse_json(std::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Error(Code::kCorrupt, "not valid JSON");
  return json;
}

template <typename T>
Result<T> json_get(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end()) {
    return Error(Code::kInvalid, std::string("\"") + key + "\" is missing");
  }
  return Getter<T>::get(*found, key);
}

template Result<bool> json_get<bool>(const Json&, const char*);
template Result<int> json_get<int>(const Json&, const char*);
template Result<uint16_t> json_get<uint16_t>(const Json&, const char*);
template Result<uint32_t> json_get<uint32_t>(const Json&, const char*);
template Result<int64_t> json_get<int64_t>(const Json&, const char*);
template Result<uint64_t> json_get<uint64_t>(const Json&, const char*);
template Result<double> json_get<double>(const Json&, const char*);
template Result<std::string> json_get<std::string>(const Json&, const char*);
template Result<Json> json_get<Json>(const Json&, const char*);
template Result<std::vector<int>> json_get<std::vector<int>>(const Json&, const char*);
template Result<std::vector<int64_t>> json_get<std::vector<int64_t>>(const Json&, const char*);
template Result<std::vector<std::string>> json_get<std::vector<std::string>>(const Json&,
                                                                             const char*);
template Result<std::vector<Json>> json_get<std::vector<Json>>(const Json&, const char*);

Json error_to_json(const Error& error) {
  return {{"code", code_name(error.code())}, {"message", error.message()}};
}

Error error_from_json(const Json& json) {
  auto code = json_get<std::string>(json, "code");
  auto message = json_get<std::string>(json, "message");
  return Error(code.ok() ? code_from_name(*code) : Code::kInternal,
               message.ok() ? *message : "the peer gave no reason");
}

}  // namespace dvs
