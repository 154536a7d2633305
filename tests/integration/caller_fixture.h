// Tests whose processes make single calls, by the program `caller`.
#pragma once

#include <spdlog/fmt/fmt.h>

#include "cluster_fixture.h"
#include "dvk/dvk.h"

namespace dvs::integration {

class CallerTest : public ClusterTest {
 protected:
  int id_of(const std::string& name) {
    auto nodes = call("GET", "/v1/nodes");
    for (const Json& each : nodes.ok() ? nodes->at("nodes") : Json::array()) {
      if (each.at("name") == name) return each.at("id");
    }
    return -1;
  }

  // A program that makes these calls. Its own endpoint, which it may give back, is nobody else's.
  Process caller(const std::string& node, std::vector<std::string> steps) {
    steps.insert(steps.begin(), "caller");
    return run("lab", node, next_++, std::move(steps));
  }
  bool said(const Process& process, const std::string& step, int result) {
    return wait_log(process, fmt::format("{} = {}\n", step, result));
  }

  // As `dvs ps` tells it.
  std::string state(const std::string& dc, int endpoint) {
    for (const Json& each : processes(dc)) {
      if (each.at("endpoint") == endpoint) return each.at("state");
    }
    return "";
  }

  int next_ = 20;
};

}  // namespace dvs::integration
