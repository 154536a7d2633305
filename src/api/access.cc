#include "api/access.h"

#include <sstream>

#include "base/file.h"
#include "tls/digest.h"

namespace dvs {
namespace {

constexpr size_t kDigestDigits = 64;

Result<std::optional<std::pair<std::string, Caller>>> parse_line(const std::string& line) {
  std::istringstream words(line.substr(0, line.find('#')));
  std::string digest, role, name, more;
  if (!(words >> digest)) return std::optional<std::pair<std::string, Caller>>();
  words >> role >> name;
  const auto known = role_named(role);
  if (!tls::is_hex(digest, kDigestDigits) || !known || name.empty() || (words >> more)) {
    return Error(Code::kInvalid, "not \"SHA256 ROLE NAME\", the role view, operate or admin");
  }
  return std::optional(std::make_pair(digest, Caller{name, *known}));
}

}  // namespace

std::optional<Role> role_named(std::string_view name) {
  for (const Role role : {Role::kView, Role::kOperate, Role::kAdmin}) {
    if (name == name_of(role)) return role;
  }
  return std::nullopt;
}

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kAnybody:
      return "anybody";
    case Role::kView:
      return "view";
    case Role::kOperate:
      return "operate";
    case Role::kAdmin:
      return "admin";
  }
  return "";
}

Status ApiTokens::load(const std::string& path) {
  DVS_ASSIGN(const std::string text, read_file(path));
  auto parsed = parse(text);
  return parsed.ok() ? parsed : parsed.error().context(path);
}

Status ApiTokens::parse(std::string_view text) {
  std::map<std::string, Caller, std::less<>> all;
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    auto parsed = parse_line(line);
    if (!parsed.ok()) return parsed.error().context("line " + std::to_string(number));
    if (*parsed) all.insert_or_assign((*parsed)->first, (*parsed)->second);
  }
  by_digest_ = std::move(all);
  return {};
}

std::optional<Caller> ApiTokens::find(std::string_view token) const {
  const auto found = by_digest_.find(tls::sha256_hex(token));
  if (found == by_digest_.end()) return std::nullopt;
  return found->second;
}

}  // namespace dvs
