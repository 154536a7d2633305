// The one event loop of a program. DVS uses Boost.Asio; everything that belongs to the conductor
// runs on one io_context, on one thread, so objects there need no locks.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>

#include "base/result.h"

namespace dvs {

using Executor = boost::asio::io_context;

// Completion of an asynchronous operation: called exactly once, on the Executor's thread, never
// from inside the call that started the operation.
template <typename T>
using Done = std::function<void(Result<T>)>;

}  // namespace dvs
