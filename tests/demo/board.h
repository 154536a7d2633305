// A small shared file by which the client tells the harness how far it is, and the harness tells
// the client how far it may go. Both map it; it lies on a file system that all nodes of the cluster
// see.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"

namespace dvs::demo {

struct Board {
  std::atomic<int32_t> answered;   // requests the client has the answer of
  std::atomic<int32_t> allowed;    // the client asks no more than this
  std::atomic<int32_t> pace_from;  // from here on, until all is allowed, it takes its time
  std::atomic<int64_t> held_ns;    // CLOCK_REALTIME when `allowed` stopped it; 0: never
};

// Null: errno tells why. Mapped until the program ends or munmap().
inline Board* map_board(const std::string& path, bool create) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600));
  if (!fd.valid() || (create && ::ftruncate(fd.get(), sizeof(Board)) != 0)) return nullptr;
  void* at = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  return at == MAP_FAILED ? nullptr : static_cast<Board*>(at);
}

}  // namespace dvs::demo
