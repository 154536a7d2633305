// Processes of the DC in a simulation: real calls of libdvk on fibers, one state wherever their
// copies are, and an account of these copies.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dvk/caller.h"
#include "proxy/explore/fiber.h"

namespace dvs::sim {

// What a node has of a process.
enum class CopyState { kRunning, kFrozen, kHeld };

struct Thread {
  uint32_t slot = 0;
  std::unique_ptr<explore::Fiber> fiber;
  const dvk::Atomic<uint32_t>* sleeps_on = nullptr;
  uint32_t expected = 0;
  dvk::Deadline deadline = dvk::Deadline::never();
  bool scheduled = false;  // it will be run
  bool unbound = false;    // as it wished
};

struct SimProcess {
  size_t dc = 0;  // its number
  std::string task;
  int pid = 0;
  std::vector<Thread> threads;
  std::map<int, CopyState> copies;  // by node
  dvk::Region view;                 // the region of the node that it runs on
  int view_node = 0;
  bool over = false;     // it was ended
  bool excused = false;  // the machine of its only living copy was lost

  // One that may bind an endpoint; null: there may be no more. (Those that run are referred to.)
  Thread* one_more() {
    for (Thread& each : threads) {
      if (each.unbound) return &each;
    }
    return threads.size() < threads.capacity() ? &threads.emplace_back() : nullptr;
  }
  int running_copies() const {
    int count = 0;
    for (const auto& [node, state] : copies) count += state == CopyState::kRunning ? 1 : 0;
    return count;
  }
};

}  // namespace dvs::sim
