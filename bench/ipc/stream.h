// Calls and copies over byte streams, and sockets that keep datagrams whole: what the kernel's
// transports have in common.
#pragma once

#include <string>

#include "base/unique_fd.h"
#include "ipc/transport.h"

namespace dvs::bench {

void read_all(int fd, char* to, size_t bytes);
void write_all(int fd, const char* from, size_t bytes);

// Calls and copies over two byte streams (or over one, for sockets).
class StreamClient : public Client {
 public:
  // `in` is invalid where `out` goes both ways.
  StreamClient(UniqueFd out, UniqueFd in) : out_(std::move(out)), in_(std::move(in)) {}
  void call(Message& m) override;
  void send(const Message& m) override;
  void get(char* to, size_t bytes) override;
  void put(const char* from, size_t bytes) override;

 private:
  int in() const { return in_.valid() ? in_.get() : out_.get(); }

  UniqueFd out_;
  UniqueFd in_;
};

// The server's side of one StreamClient, until it is gone.
void serve_stream(int in, int out, const Plan& plan);

}  // namespace dvs::bench
