// Unix sockets with names, and descriptors sent over them.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace dvs::bench {

UniqueFd listen_unix(int type, const std::string& path);
UniqueFd connect_unix(int type, const std::string& path);
UniqueFd accept_one(int listener);
void send_fds(int socket, const int* fds, int count);
void receive_fds(int socket, int* fds, int count);

}  // namespace dvs::bench
