// "criu swrk": criu as a service for one client. Blocking; every call is false when criu has gone.
#pragma once

#include <sys/types.h>

#include <optional>

#include "base/unique_fd.h"
#include "criu_rpc.pb.h"

namespace dvs::helper {

class CriuService {
 public:
  // Starts it as a child of this process. False: errno tells why.
  bool start(const char* program);

  bool send(const criu_rpc::Request& request);
  std::optional<criu_rpc::Response> receive();
  // The first process of the tree. criu waits for ever for one that ends before it runs by itself:
  // once it has ended, receive() ends criu when it says nothing for some time.
  void watch(pid_t pid);
  // Lets criu go on after a notification, or give up.
  bool acknowledge(bool success);

  // Closes the connection and waits for criu's end. Its exit status; -1: ended by a signal.
  int finish();

 private:
  bool await_words();

  UniqueFd socket_;
  pid_t pid_ = -1;
  UniqueFd watched_;  // pidfd
};

}  // namespace dvs::helper
