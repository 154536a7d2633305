#include "ipc/stream.h"

#include <cerrno>
#include <vector>

#include "ipc/die.h"

namespace dvs::bench {
namespace {

// The request of a copy; the bytes follow, or the answer is the bytes.
struct CopyRequest {
  uint64_t bytes;
  bool is_put;
};

bool read_some(int fd, char* to, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = ::read(fd, to + done, bytes - done);
    if (got < 0 && errno == EINTR) continue;
    require(got >= 0, "cannot read");
    if (got == 0) return false;
    done += static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

void read_all(int fd, char* to, size_t bytes) {
  if (!read_some(fd, to, bytes)) die_plainly("the other side has closed");
}

void write_all(int fd, const char* from, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t put = ::write(fd, from + done, bytes - done);
    if (put < 0 && errno == EINTR) continue;
    require(put > 0, "cannot write");
    done += static_cast<size_t>(put);
  }
}

void StreamClient::call(Message& m) {
  write_all(out_.get(), m.data(), m.size());
  read_all(in(), m.data(), m.size());
}

void StreamClient::send(const Message& m) { write_all(out_.get(), m.data(), m.size()); }

void StreamClient::get(char* to, size_t bytes) {
  const CopyRequest request{bytes, false};
  write_all(out_.get(), reinterpret_cast<const char*>(&request), sizeof request);
  read_all(in(), to, bytes);
}

void StreamClient::put(const char* from, size_t bytes) {
  const CopyRequest request{bytes, true};
  write_all(out_.get(), reinterpret_cast<const char*>(&request), sizeof request);
  write_all(out_.get(), from, bytes);
  char done = 0;
  read_all(in(), &done, 1);
}

void serve_stream(int in, int out, const Plan& plan) {
  if (plan.pattern != Pattern::kCopy) {
    const bool answers = plan.pattern == Pattern::kCall;
    Message m;
    while (read_some(in, m.data(), m.size())) {
      if (answers) write_all(out, m.data(), m.size());
    }
    return;
  }
  std::vector<char> memory = fill(plan.bytes);
  CopyRequest request{};
  while (read_some(in, reinterpret_cast<char*>(&request), sizeof request)) {
    if (request.bytes > plan.bytes) die_plainly("a copy of more than there is");
    if (request.is_put) {
      read_all(in, memory.data(), request.bytes);
      write_all(out, "", 1);
    } else {
      write_all(out, memory.data(), request.bytes);
    }
  }
}

}  // namespace dvs::bench
