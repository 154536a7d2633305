// What a client or server has done, request by request: a file that it maps and writes, and the
// checker maps and reads. It lies on a file system that all nodes of the cluster see, so it does
// not move along: it keeps what was done, whatever becomes of its writer.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"

namespace dvs::soak {

// A request, as one of the two sides knows it.
struct Entry {
  uint64_t number = 0;      // the client's, of its requests to this server: 1, 2, ...
  uint64_t count = 0;       // the server's, of all requests it has taken
  uint64_t own = 0;         // the server's, of those of this client
  uint64_t digest = 0;      // of the server's state after it
  int64_t sent_ns = 0;      // CLOCK_REALTIME; of clients
  int64_t answered_ns = 0;  // likewise
  int32_t rc = 0;           // of the client's call, or the server's reply to the one before
  uint32_t peer = 0;        // the server's index, or the client's id
};

// One writer, one reader. The writer of a full history waits; clients hold back long before, so
// that no server ever waits for the reader.
struct History {
  static constexpr uint64_t kEntries = 1 << 17;
  static constexpr uint64_t kClientsLag = 1 << 14;

  alignas(64) std::atomic<uint64_t> written;
  std::atomic<uint32_t> closed;  // its writer has ended by itself
  alignas(64) std::atomic<uint64_t> read;
  alignas(64) Entry entries[kEntries];

  uint64_t lag() const { return written.load() - read.load(); }
  void add(const Entry& entry) {
    const uint64_t at = written.load(std::memory_order_relaxed);
    while (at - read.load() == kEntries) ::usleep(1000);
    entries[at % kEntries] = entry;
    written.store(at + 1, std::memory_order_release);
  }
};

// Null: errno tells why. Mapped until the program ends.
inline History* map_history(const std::string& path, bool create) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600));
  if (!fd.valid() || (create && ::ftruncate(fd.get(), sizeof(History)) != 0)) return nullptr;
  void* at = ::mmap(nullptr, sizeof(History), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  return at == MAP_FAILED ? nullptr : static_cast<History*>(at);
}

}  // namespace dvs::soak
