// For tests of asynchronous code: run the event loop until something has happened.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "base/executor.h"

namespace dvs {

// Runs the loop until `condition` holds. False: it did not within the time.
inline bool run_until(Executor& executor, const std::function<bool()>& condition,
                      std::chrono::milliseconds patience = std::chrono::seconds(15)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  executor.restart();
  while (!condition()) {
    if (executor.run_one_until(deadline) > 0) continue;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    if (executor.stopped()) return condition();  // nothing is under way any more
  }
  return true;
}

// The result that the operation begun by `start` gives to its Done.
template <typename T>
Result<T> await(Executor& executor, const std::function<void(Done<T>)>& start) {
  auto result = std::make_shared<std::optional<Result<T>>>();
  start([result](Result<T> got) { result->emplace(std::move(got)); });
  if (!run_until(executor, [&] { return result->has_value(); })) {
    return Error(Code::kInternal, "the test waited in vain");
  }
  return std::move(**result);
}

}  // namespace dvs
