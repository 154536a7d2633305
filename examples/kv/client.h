// The client's side of the store, as functions.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "protocol.h"

namespace kv {

// "there is no such key", or what dvk.h calls the error.
const char* reason(int error);

class Client {
 public:
  // Each call waits at most `patience`. After EDVSTIMEDOUT it is not known whether it was done.
  Client(const dvk::Endpoint& self, int server, dvk::Deadline::Clock::duration patience)
      : self_(&self), server_(server), patience_(patience) {}

  dvk::Status put(std::string_view key, std::string_view value) const;
  dvk::Expected<std::string> get(std::string_view key) const;
  dvk::Status remove(std::string_view key) const;
  dvk::Status compare_and_swap(std::string_view key, std::string_view expected,
                               std::string_view desired) const;
  dvk::Expected<Total> count() const;
  // All keys that begin with `prefix`, in order. Each page is as it was when it was asked for.
  dvk::Expected<std::vector<std::string>> list(std::string_view prefix = "") const;

 private:
  template <typename Req>
  auto call(const Req& request) const {
    return self_->call(server_, request, patience_);
  }

  const dvk::Endpoint* self_;
  int server_;
  dvk::Deadline::Clock::duration patience_;
};

}  // namespace kv
