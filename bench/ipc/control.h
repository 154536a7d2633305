// What bench-ipc-measure and its workers say to each other: one struct per datagram of a unix
// socket that lies where all of them see it, whatever namespaces they are in. In this order:
//
//   worker    Hello     the kernel tells the measurer the worker's process id
//   measurer  Place     the worker's endpoint, if it needs one, is bound now
//   worker    Ready     a server serves; a client is connected and warm
//   measurer  Go        to clients
//   worker    Outcome   from clients
//
// The measurer closing the socket ends the worker.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/unique_fd.h"

namespace dvs::bench {

constexpr int kAddressSize = 128;

struct Hello {
  int32_t group;
  int32_t index;  // of a client; kServer
};
constexpr int32_t kServer = -1;

struct Address {
  char text[kAddressSize];
};
using Place = Address;  // where a server is to listen, or a client finds it
using Ready = Address;  // where a server listens indeed

struct Go {
  double seconds;
};

struct Outcome {
  uint64_t calls;
  double elapsed_ns;
  double p50_ns;
  double p99_ns;
};

Address to_address(const std::string& text);

constexpr int kControlType = SOCK_SEQPACKET;
// Of a worker, and its id as the caller sees it. Invalid when none connects within `limit_ms`.
UniqueFd accept_control(int listener, int limit_ms, pid_t& pid);
// From now on the process ends when the other side closes.
void end_with(int control);

void send_bytes(int control, const void* data, size_t size);
void receive_bytes(int control, void* data, size_t size);

template <typename T>
void send_struct(int control, const T& value) {
  send_bytes(control, &value, sizeof value);
}
template <typename T>
T receive_struct(int control) {
  T value{};
  receive_bytes(control, &value, sizeof value);
  return value;
}

}  // namespace dvs::bench
