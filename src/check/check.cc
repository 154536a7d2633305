#include "check/check.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "check/probes.h"

namespace dvs {

namespace probe {

Feature ok(std::string name, std::string detail) {
  return {std::move(name), FeatureState::kOk, std::move(detail), {}};
}

Feature degraded(std::string name, std::string detail, std::string remedy) {
  return {std::move(name), FeatureState::kDegraded, std::move(detail), std::move(remedy)};
}

Feature missing(std::string name, std::string detail, std::string remedy) {
  return {std::move(name), FeatureState::kMissing, std::move(detail), std::move(remedy)};
}

int in_child(const std::function<int()>& what) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(what());
  if (child < 0) return -1;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace probe

std::string_view feature_state_name(FeatureState state) {
  switch (state) {
    case FeatureState::kOk:
      return "ok";
    case FeatureState::kDegraded:
      return "degraded";
    case FeatureState::kMissing:
      break;
  }
  return "missing";
}

std::vector<Feature> check_host() {
  using namespace probe;
  return {root(),
          kernel(),
          architecture(),
          pid_namespace(),
          mount_namespace(),
          time_namespace(),
          network_namespace(),
          pid_max(),
          freezer(),
          pidfd(),
          futex_waitv(),
          process_vm(),
          userfaultfd(),
          page_tracking(),
          soft_dirty(),
          run_tmpfs(),
          criu(),
          etcd(),
          ip_tool()};
}

bool is_fit(const std::vector<Feature>& features) {
  return std::none_of(features.begin(), features.end(), [](const Feature& feature) {
    return feature.state == FeatureState::kMissing;
  });
}

Json check_to_json(const std::vector<Feature>& features) {
  Json list = Json::array();
  for (const auto& feature : features) {
    list.push_back({{"name", feature.name},
                    {"state", feature_state_name(feature.state)},
                    {"detail", feature.detail},
                    {"remedy", feature.remedy}});
  }
  return {{"features", std::move(list)}, {"fit", is_fit(features)}};
}

}  // namespace dvs
