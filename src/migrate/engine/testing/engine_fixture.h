// What all engine tests share: an engine, an event loop to wait with, and the steps of a migration.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "migrate/engine/engine.h"
#include "migrate/engine/testing/test_node.h"

namespace dvs::testing {

// As scripts/setup installs it; else the host's own.
inline std::string criu_program() {
  const char* dir = std::getenv("DVS_CRIU_DIR");
  const std::string installed = std::string(dir ? dir : "/usr/local/lib/dvs/criu") + "/criu";
  return ::access(installed.c_str(), X_OK) == 0 ? installed : "criu";
}

inline constexpr const char* kImages = "m1";

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override { engine_ = open(std::chrono::seconds(30)); }

  std::unique_ptr<Engine> open(std::chrono::milliseconds timeout) {
    auto engine = open_criu(executor_, {criu_program(), runner_program(), timeout});
    if (!engine.ok()) ADD_FAILURE() << engine.error().message();
    return engine.ok() ? std::move(*engine) : nullptr;
  }

  // Runs the event loop until the operation has told its result.
  template <typename T, typename Start>
  Result<T> await(Start start) {
    std::optional<Result<T>> result;
    start([&](Result<T> told) { result = std::move(told); });
    executor_.restart();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(40);
    while (!result && std::chrono::steady_clock::now() < deadline) {
      executor_.run_one_for(std::chrono::milliseconds(100));
      if (executor_.stopped()) executor_.restart();
    }
    if (!result) return Error(Code::kTimeout, "the operation told no result");
    return std::move(*result);
  }

  Result<DumpResult> dump(const TestNode& node, pid_t pid) { return dump(*engine_, node, pid); }
  Result<DumpResult> dump(Engine& engine, const TestNode& node, pid_t pid) {
    return await<DumpResult>([&](auto done) {
      engine.dump({node.site(kImages), pid, node.cgroup()}, std::move(done));
    });
  }

  Result<std::unique_ptr<HeldTree>> restore(const TestNode& node) {
    return await<std::unique_ptr<HeldTree>>([&](auto done) {
      engine_->restore({node.site(kImages), {node.procs_file()}}, std::move(done));
    });
  }
  Result<bool> resume(HeldTree& tree) {
    return await<bool>([&](auto done) { tree.resume(std::move(done)); });
  }
  Result<bool> kill(HeldTree& tree) {
    return await<bool>([&](auto done) { tree.kill(std::move(done)); });
  }

  // What the mover would do: the images, and the state of the DC's shared memory and log.
  void copy_images(const TestNode& from, const TestNode& to) {
    namespace fs = std::filesystem;
    fs::create_directories(to.site(kImages).dir);
    for (const auto& entry : fs::directory_iterator(from.site(kImages).dir)) {
      fs::copy(entry.path(), to.site(kImages).dir + "/" + entry.path().filename().string());
    }
    std::memcpy(static_cast<void*>(&to.state()), &from.state(), sizeof(SharedState));
    fs::copy(from.outside("/run/dvs/victim.log"), to.outside("/run/dvs/victim.log"),
             fs::copy_options::overwrite_existing);
  }

  // Freezes the victim, dumps it, and restores it on the target, where it waits. Null: it failed.
  std::unique_ptr<HeldTree> hold(const TestNode& from, pid_t pid, const TestNode& to) {
    from.freeze();
    auto dumped = dump(from, pid);
    EXPECT_TRUE(dumped.ok()) << dumped.error().message();
    EXPECT_TRUE(from.frozen());
    if (!dumped.ok()) return nullptr;
    copy_images(from, to);
    auto held = restore(to);
    EXPECT_TRUE(held.ok()) << held.error().message();
    return held.ok() ? std::move(*held) : nullptr;
  }

  // The same, and lets it run there.
  void migrate(const TestNode& from, pid_t pid, const TestNode& to) {
    const auto held = hold(from, pid, to);
    ASSERT_NE(held, nullptr);
    auto resumed = resume(*held);
    ASSERT_TRUE(resumed.ok()) << resumed.error().message();
  }

  static bool counts(const TestNode& node, int index = 0) {
    const uint64_t before = node.state().counters[index];
    return eventually([&] { return node.state().counters[index] > before + 2; });
  }
  static bool has_process(const TestNode& node, pid_t pid) {
    return ::access(node.outside("/proc/" + std::to_string(pid)).c_str(), F_OK) == 0;
  }

  Executor executor_;
  std::unique_ptr<Engine> engine_;
};

inline pid_t start(TestNode& node, const std::string& mode) {
  auto pid = node.start_victim(mode);
  if (!pid.ok()) ADD_FAILURE() << pid.error().message();
  return pid.ok() ? *pid : -1;
}

// Until the process waits in that system call.
inline void await_call(TestNode& node, pid_t pid, long number) {
  EXPECT_TRUE(eventually([&] {
    const auto call = node.run({"cat", "/proc/" + std::to_string(pid) + "/syscall"});
    return call.ok() && call->starts_with(std::to_string(number) + " ");
  }));
}

}  // namespace dvs::testing
