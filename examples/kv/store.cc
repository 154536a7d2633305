#include "store.h"

#include <utility>

namespace kv {

using dvk::Failure;
using dvk::Status;

Status Store::put(std::string_view key, std::string value) {
  if (key.empty()) return Failure(kEmptyKey);
  if (auto found = entries_.find(key); found != entries_.end()) {
    return replace(found, std::move(value));
  }
  if (bytes_ + key.size() + value.size() > limit_) return Failure(kFull);
  bytes_ += key.size() + value.size();
  entries_.emplace(key, std::move(value));
  return {};
}

Status Store::replace(Entries::iterator entry, std::string value) {
  const size_t without = bytes_ - entry->second.size();
  if (without + value.size() > limit_) return Failure(kFull);
  bytes_ = without + value.size();
  entry->second = std::move(value);
  return {};
}

dvk::Expected<std::string_view> Store::get(std::string_view key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return Failure(kNoSuchKey);
  return found->second;
}

Status Store::remove(std::string_view key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return Failure(kNoSuchKey);
  bytes_ -= found->first.size() + found->second.size();
  entries_.erase(found);
  return {};
}

Status Store::compare_and_swap(std::string_view key, std::string_view expected,
                               std::string desired) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return Failure(kNoSuchKey);
  if (found->second != expected) return Failure(kChanged);
  return replace(found, std::move(desired));
}

std::string Store::keys_after(std::string_view after, size_t room, bool& more) const {
  std::string page;
  auto entry = entries_.upper_bound(after);
  for (; entry != entries_.end(); ++entry) {
    const auto length = static_cast<uint32_t>(entry->first.size());
    if (page.size() + sizeof length + length > room) break;
    page.append(reinterpret_cast<const char*>(&length), sizeof length).append(entry->first);
  }
  more = entry != entries_.end();
  return page;
}

}  // namespace kv
