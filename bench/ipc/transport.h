// A way for two processes to talk that is measured: ours or a peer. Each is a pair of functions,
// run in different processes; bench/bench-ipc knows which patterns each can do.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace dvs::bench {

enum class Pattern {
  kCall,    // a request and its answer, 64 bytes each
  kSend,    // messages of 64 bytes one way
  kNotify,  // signals without content
  kCopy,    // `bytes` of the other process's memory
};

struct Plan {
  Pattern pattern = Pattern::kCall;
  size_t bytes = 64;
  int clients = 1;
  std::string address;  // where the server listens: what this means is the transport's affair
};

using Message = std::array<char, 64>;

// A client's side. Failures end the process. What a transport cannot do does so too.
class Client {
 public:
  Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  virtual ~Client() = default;

  virtual void call(Message& m);  // the answer replaces m
  virtual void send(const Message& m);
  virtual void notify();
  virtual void get(char* to, size_t bytes);  // from the server's memory
  virtual void put(const char* from, size_t bytes);
};

struct Transport {
  const char* name;
  // Serves for ever. Calls `ready` with the address clients are to use.
  void (*serve)(const Plan& plan, const std::function<void(const std::string&)>& ready);
  std::unique_ptr<Client> (*connect)(const Plan& plan);
};

const Transport& transport_named(const std::string& name);

// What the server's memory is full of, for kCopy: what was got can be checked.
// What is copied: half noise and half the same, as memory often is.
inline std::vector<char> fill(size_t bytes) {
  std::vector<char> memory(bytes);
  uint64_t noise = 1;
  for (size_t i = 0; i < bytes; ++i) {
    noise = noise * 6364136223846793005 + 1442695040888963407;
    memory[i] = i % 64 < 32 ? static_cast<char>(noise >> 56) : '\x5a';
  }
  return memory;
}

extern const Transport kDvk;
extern const Transport kPipe, kMessageQueue, kEventfd;
extern const Transport kUnixStream, kSeqpacket, kTcp;
extern const Transport kProcessVm, kMemcpy;
extern const Transport kZeroMq, kNng, kGrpc, kNats;

}  // namespace dvs::bench
