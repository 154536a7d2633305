#include "directory/endpoint.h"

#include <boost/asio/ip/address.hpp>
#include <charconv>
#include <string_view>
#include <utility>

namespace dvs {
namespace {

using boost::asio::ip::tcp;

struct HostPort {
  std::string host;  // without the brackets of IPv6
  uint16_t port = 0;
};

constexpr std::string_view kPlain = "http://";
constexpr std::string_view kSecure = "https://";
constexpr std::string_view kNotInNames = "/?#@[] \t\r\n";

std::string_view without_brackets(std::string_view host) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return bracketed ? host.substr(1, host.size() - 2) : host;
}

bool host_is_plausible(std::string_view host) {
  const std::string_view inner = without_brackets(host);
  const bool is_ipv6 = inner.find(':') != std::string_view::npos;
  return !inner.empty() && inner.find_first_of(kNotInNames) == std::string_view::npos &&
         is_ipv6 == (inner.size() != host.size());
}

Result<HostPort> split(const std::string& url) {
  const Error invalid(Code::kInvalid, "etcd endpoint '" + url + "' is not http(s)://host:port");
  std::string_view rest = url;
  if (!rest.starts_with(kPlain) && !wants_tls(url)) return invalid;
  rest.remove_prefix(wants_tls(url) ? kSecure.size() : kPlain.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || !host_is_plausible(rest.substr(0, colon))) return invalid;
  HostPort result{std::string(without_brackets(rest.substr(0, colon))), 0};
  const char* end = rest.data() + rest.size();
  const auto [stop, failed] = std::from_chars(rest.data() + colon + 1, end, result.port);
  if (failed != std::errc{} || stop != end || result.port == 0) return invalid;
  return result;
}

}  // namespace

bool wants_tls(const std::string& url) { return url.starts_with(kSecure); }

Result<std::vector<Endpoint>> resolve_endpoint(Executor& executor, const std::string& url) {
  DVS_ASSIGN(const HostPort where, split(url));
  std::string authority = url.substr(url.find("://") + 3);
  if (authority.ends_with('/')) authority.pop_back();
  boost::system::error_code failed;
  const auto numeric = boost::asio::ip::make_address(where.host, failed);
  if (!failed)
    return std::vector<Endpoint>{{tcp::endpoint(numeric, where.port), authority, where.host}};

  const auto found =
      tcp::resolver(executor).resolve(where.host, std::to_string(where.port), failed);
  if (failed) {
    return Error(Code::kUnavailable,
                 "cannot look up etcd host '" + where.host + "': " + failed.message());
  }
  std::vector<Endpoint> endpoints;
  for (const auto& entry : found) endpoints.push_back({entry.endpoint(), authority, where.host});
  return endpoints;
}

}  // namespace dvs
