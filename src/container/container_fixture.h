// For tests that make containers: a private mount namespace with an own tmpfs on /run
// (test_main.cc) and, after each test, the check that nothing is left of any container.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "container/container.h"

namespace dvs {

// Polls until `condition` holds. False after 20 s.
bool eventually(const std::function<bool()>& condition);

// Path of the dvs-container program and of this test program (which has probes, test_main.cc).
std::string helper_path();
std::string self_path();

struct Task {
  pid_t host_pid = 0;
  pid_t dc_pid = 0;
};

class ContainerTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Runs the event loop until the operation has answered.
  template <typename T>
  Result<T> await(const std::function<void(Done<T>)>& start) {
    auto answer = std::make_shared<std::optional<Result<T>>>();
    start([answer](Result<T> result) { *answer = std::move(result); });
    EXPECT_FALSE(answer->has_value()) << "answered from inside the call";
    if (!run_until([&] { return answer->has_value(); })) {
      return Error(Code::kTimeout, "no answer in 20 s");
    }
    return std::move(**answer);
  }
  bool run_until(const std::function<bool()>& condition);

  ContainerSpec spec(const std::string& name) const;
  Result<std::unique_ptr<Container>> try_create(const ContainerSpec& spec);
  Container& create(const ContainerSpec& spec);  // kept, and destroyed after the test
  Container& create(const std::string& name) { return create(spec(name)); }
  // From now on TearDown() looks for what is left of the container.
  void watch(const Container& container);

  LaunchSpec shell(const std::string& script) const;
  Result<std::unique_ptr<Launch>> try_launch(Container& container, LaunchSpec spec);
  Task start(Container& container, LaunchSpec spec);
  // The wait status that the container recorded; waits for it.
  int exit_of(const Container& container, pid_t dc_pid);
  // Starts it, waits for its end and returns what it wrote.
  std::string output_of(Container& container, LaunchSpec spec);
  std::string output_of(Container& container, const std::string& script) {
    return output_of(container, shell(script));
  }

  // Processes of the container, its first one included.
  static size_t processes_in(const Container& container);

  Executor executor_;
  std::vector<std::unique_ptr<Container>> containers_;

 private:
  std::string mounts_before_;
  std::set<std::string> namespaces_;  // of the containers made
};

}  // namespace dvs
