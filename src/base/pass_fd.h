// A descriptor sent along with a message over a local socket of packets (SOCK_SEQPACKET).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace dvs {

struct Packet {
  std::string bytes;  // empty: the other end was closed
  UniqueFd fd;        // close-on-exec; not valid when none came along
};

// Longer messages arrive cut off.
inline constexpr size_t kLongestPacket = 4096;

// `fd`: -1 for none. Blocks while the socket is full.
Status send_packet(int socket, std::string_view bytes, int fd = -1);
// Blocks until there is one.
Result<Packet> receive_packet(int socket);

}  // namespace dvs
