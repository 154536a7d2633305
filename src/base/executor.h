// The one event loop of a program. DVS uses Boost.Asio; everything that belongs to the conductor
// runs on one io_context, on one thread, so objects there need no locks.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "base/result.h"

namespace dvs {

using Executor = boost::asio::io_context;

// Completion of an asynchronous operation: called exactly once, on the Executor's thread, never
// from inside the call that started the operation.
template <typename T>
using Done = std::function<void(Result<T>)>;

// Runs `work` after `delay`. That cannot be called off: `work` sees whether it still has to.
template <typename F>
void run_after(Executor& executor, std::chrono::steady_clock::duration delay, F work) {
  auto timer = std::make_shared<boost::asio::steady_timer>(executor, delay);
  timer->async_wait(
      [timer, work = std::move(work)](const boost::system::error_code& stopped) mutable {
        if (!stopped) work();
      });
}

}  // namespace dvs
