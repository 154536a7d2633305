#include "proxy/link_hello.h"

#include "base/json.h"

namespace dvs {
namespace {

// As JSON writes it: control and non-ASCII characters escaped, bad UTF-8 replaced.
std::string escaped(const std::string& text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

Result<Hello> parse(std::string_view body) {
  DVS_ASSIGN(const Json json, parse_json(body));
  Hello hello;
  DVS_ASSIGN(hello.cluster, json_get<std::string>(json, "cluster"));
  DVS_ASSIGN(hello.node, json_get<NodeId>(json, "node"));
  DVS_ASSIGN(hello.name, json_get<std::string>(json, "name"));
  DVS_ASSIGN(hello.incarnation, json_get<uint64_t>(json, "incarnation"));
  DVS_ASSIGN(hello.to, json_get<NodeId>(json, "to"));
  return hello;
}

}  // namespace

std::string encode_hello(const Hello& hello) {
  return Json{{"cluster", hello.cluster},
              {"node", hello.node},
              {"name", hello.name},
              {"incarnation", hello.incarnation},
              {"to", hello.to}}
      .dump(-1, ' ', true, Json::error_handler_t::replace);
}

Result<Hello> check_hello(std::string_view body, const std::string& cluster, NodeId self) {
  if (body.size() > kMaxHello) return Error(Code::kCorrupt, "hello too long");
  auto hello = parse(body);
  if (!hello.ok()) return Error(Code::kCorrupt, hello.error().context("bad hello").message());
  if (hello->cluster != cluster) {
    return Error(Code::kDenied, "node of another cluster, " + escaped(hello->cluster));
  }
  if (hello->to != self) {
    return Error(Code::kDenied, "hello is for node " + std::to_string(hello->to) +
                                    ", this is node " + std::to_string(self));
  }
  return hello;
}

}  // namespace dvs
