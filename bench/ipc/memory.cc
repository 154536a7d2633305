// Copies of another process's memory by process_vm_readv, and memcpy within one process.
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "ipc/die.h"
#include "ipc/stream.h"
#include "ipc/unix.h"

namespace dvs::bench {
namespace {

struct Place {
  pid_t pid;
  char* memory;
};

void serve_memory(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  const UniqueFd listener = listen_unix(SOCK_STREAM, plan.address);
  std::vector<char> memory = fill(plan.bytes);
  ready(plan.address);
  const UniqueFd client = accept_one(listener.get());
  const Place place{::getpid(), memory.data()};
  write_all(client.get(), reinterpret_cast<const char*>(&place), sizeof place);
  for (;;) ::pause();
}

class ProcessVmClient : public Client {
 public:
  explicit ProcessVmClient(const Plan& plan) {
    const UniqueFd server = connect_unix(SOCK_STREAM, plan.address);
    read_all(server.get(), reinterpret_cast<char*>(&place_), sizeof place_);
  }
  void get(char* to, size_t bytes) override {
    const iovec mine{to, bytes};
    const iovec its{place_.memory, bytes};
    require(::process_vm_readv(place_.pid, &mine, 1, &its, 1, 0) == static_cast<ssize_t>(bytes),
            "process_vm_readv");
  }
  void put(const char* from, size_t bytes) override {
    const iovec mine{const_cast<char*>(from), bytes};
    const iovec its{place_.memory, bytes};
    require(::process_vm_writev(place_.pid, &mine, 1, &its, 1, 0) == static_cast<ssize_t>(bytes),
            "process_vm_writev");
  }

 private:
  Place place_{};
};

// The server has no part in it.
class MemcpyClient : public Client {
 public:
  explicit MemcpyClient(const Plan& plan) : memory_(fill(plan.bytes)) {}
  void get(char* to, size_t bytes) override {
    std::memcpy(to, memory_.data(), bytes);
    asm volatile("" ::: "memory");  // it has to be done each time
  }
  void put(const char* from, size_t bytes) override {
    std::memcpy(memory_.data(), from, bytes);
    asm volatile("" ::: "memory");
  }

 private:
  std::vector<char> memory_;
};

template <typename T>
std::unique_ptr<Client> connect(const Plan& plan) {
  return std::make_unique<T>(plan);
}

}  // namespace

const Transport kProcessVm{"process_vm", serve_memory, connect<ProcessVmClient>};
const Transport kMemcpy{"memcpy", serve_memory, connect<MemcpyClient>};

}  // namespace dvs::bench
