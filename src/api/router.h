// Finds the handler of a request by method and path. No I/O.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/http_server.h"

namespace dvs {

class Router {
 public:
  // "{}" as a segment matches any one segment. A fixed segment wins over a {} at the same place,
  // whatever the order of the calls.
  void add(const std::string& method, const std::string& path, HttpHandler handler,
           Role role = Role::kAdmin);

  struct Match {
    const HttpHandler* handler = nullptr;  // null: see allowed
    Role role = Role::kView;  // that the caller needs; of what does not exist: to be told so
    std::string allowed;  // methods of that path ("GET, POST"); empty when there is no such path
  };
  // Takes the target apart: fills path, params and query of `request`, whose method is set.
  // kInvalid: not a path, or a broken %XX in it.
  Result<Match> route(std::string_view target, HttpRequest& request) const;

 private:
  struct Route {
    std::string method;
    std::vector<std::string> segments;
    HttpHandler handler;
    Role role;
  };
  std::vector<Route> routes_;
};

}  // namespace dvs
