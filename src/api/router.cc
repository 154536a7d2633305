#include "api/router.h"

#include <algorithm>

namespace dvs {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<std::vector<std::string>> path_segments(std::string_view path) {
  std::vector<std::string> segments;
  for (const auto part : split(path.substr(1), '/')) {
    DVS_ASSIGN(std::string segment, url_decode(part));
    segments.push_back(std::move(segment));
  }
  return segments;
}

Status parse_query(std::string_view text, std::map<std::string, std::string>& query) {
  for (const auto pair : split(text, '&')) {
    if (pair.empty()) continue;
    const size_t equals = std::min(pair.find('='), pair.size());
    DVS_ASSIGN(std::string key, url_decode(pair.substr(0, equals)));
    DVS_ASSIGN(std::string value, url_decode(pair.substr(std::min(equals + 1, pair.size()))));
    query[std::move(key)] = std::move(value);
  }
  return {};
}

// Whether a route fits, and what its {} stand for.
bool matches(const std::vector<std::string>& pattern, const std::vector<std::string>& segments,
             std::vector<std::string>& params) {
  if (pattern.size() != segments.size()) return false;
  params.clear();
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == "{}" && !segments[i].empty()) {
      params.push_back(segments[i]);
    } else if (pattern[i] != segments[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace

void Router::add(const std::string& method, const std::string& path, HttpHandler handler,
                 Role role) {
  Route route{method, {}, std::move(handler), role};
  for (const auto part : split(std::string_view(path).substr(1), '/')) {
    route.segments.emplace_back(part);
  }
  const auto params = [](const Route& r) {
    return std::count(r.segments.begin(), r.segments.end(), "{}");
  };
  const auto at = std::find_if(routes_.begin(), routes_.end(),
                               [&](const Route& other) { return params(other) > params(route); });
  routes_.insert(at, std::move(route));
}

Result<Router::Match> Router::route(std::string_view target, HttpRequest& request) const {
  if (target.empty() || target[0] != '/') return Error(Code::kInvalid, "the target is not a path");
  const size_t question = std::min(target.find('?'), target.size());
  request.path = std::string(target.substr(0, question));
  DVS_TRY(parse_query(target.substr(std::min(question + 1, target.size())), request.query));
  DVS_ASSIGN(const auto segments, path_segments(request.path));
  Match match;
  for (const auto& route : routes_) {
    std::vector<std::string> params;
    if (!matches(route.segments, segments, params)) continue;
    if (route.method == request.method) {
      request.params = std::move(params);
      return Match{&route.handler, route.role, {}};
    }
    match.allowed += (match.allowed.empty() ? "" : ", ") + route.method;
  }
  return match;
}

}  // namespace dvs
