// One JSON value a line over a unix stream socket, blocking with limits: how the commands, the
// supervisor and the nodes' first processes talk to each other.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace dvs::local {

class Channel {
 public:
  Channel() = default;
  explicit Channel(UniqueFd fd) : fd_(std::move(fd)) {}

  bool open() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }
  void close() { fd_.reset(); }

  Status send(const Json& value);
  // kUnavailable: the other side has closed. kTimeout.
  Result<Json> receive(std::chrono::milliseconds limit);
  // The same; an {"error"} that was received is returned as that Error.
  Result<Json> receive_answer(std::chrono::milliseconds limit);

 private:
  UniqueFd fd_;
  std::string received_;  // the start of the next line
};

Result<std::pair<Channel, Channel>> make_channel();
Result<UniqueFd> listen_unix(const std::string& path);  // mode 0600; an old socket is replaced
Result<UniqueFd> connect_unix(const std::string& path);
pid_t listener_pid(int connected);  // of the process that listens, as the caller sees it

// The whole answer, head and body, to one GET over a connected stream socket; 1 s for each read.
Result<std::string> http_get(int connected, const std::string& target);

}  // namespace dvs::local
