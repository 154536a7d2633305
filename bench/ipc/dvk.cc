// Ours, by the C API of libdvk, as an application uses it.
#include <dvk/dvk.h>

#include <cstring>
#include <vector>

#include "ipc/die.h"
#include "ipc/transport.h"

namespace dvs::bench {
namespace {

constexpr long kLimitMs = 20'000;

void must(int rc, const char* what) {
  if (rc < 0) die_plainly(std::string("dvk: ") + what + " says " + std::to_string(rc));
}

int my_endpoint() {
  const int endpoint = dvk_wait4bind_T(kLimitMs);
  if (DVK_IS_ERROR(endpoint)) die_plainly("dvk: not bound: " + std::to_string(endpoint));
  return endpoint;
}

[[noreturn]] void serve_calls() {
  for (;;) {
    message m;
    must(dvk_rcvrqst(&m), "rcvrqst");
    must(dvk_reply(m.m_source, &m), "reply");
  }
}

[[noreturn]] void swallow() {
  for (;;) {
    message m;
    must(dvk_receive(ANY, &m), "receive");
  }
}

// Waits in receive while clients copy; tells each that asks where its memory is.
[[noreturn]] void lend_memory(size_t bytes) {
  std::vector<char> memory = fill(bytes);
  for (;;) {
    message m;
    must(dvk_receive(ANY, &m), "receive");
    m.m1_p1 = memory.data();
    must(dvk_reply(m.m_source, &m), "reply");
  }
}

void serve(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  ready(std::to_string(my_endpoint()));
  if (plan.pattern == Pattern::kCall) serve_calls();
  if (plan.pattern == Pattern::kCopy) lend_memory(plan.bytes);
  swallow();
}

class DvkClient : public Client {
 public:
  explicit DvkClient(const Plan& plan) : server_(std::stoi(plan.address)) {
    my_endpoint();
    if (plan.pattern != Pattern::kCopy) return;
    message m{};
    must(dvk_sendrec(server_, &m), "sendrec");
    memory_ = m.m1_p1;
  }

  void call(Message& m) override {
    message request;
    static_assert(sizeof request == sizeof m);
    std::memcpy(&request, m.data(), sizeof request);
    must(dvk_sendrec(server_, &request), "sendrec");
    std::memcpy(m.data(), &request, sizeof request);
  }
  void send(const Message& m) override {
    message copy;
    std::memcpy(&copy, m.data(), sizeof copy);
    must(dvk_send(server_, &copy), "send");
  }
  void notify() override { must(dvk_notify(server_), "notify"); }
  void get(char* to, size_t bytes) override { copy(server_, memory_, SELF, to, bytes); }
  void put(const char* from, size_t bytes) override { copy(SELF, from, server_, memory_, bytes); }

 private:
  // The server may not have come back to its receive.
  static void copy(int source, const void* from, int target, void* to, size_t bytes) {
    int rc = EDVSPROCSTS;
    for (int tries = 0; rc == EDVSPROCSTS && tries < 1'000'000; ++tries) {
      rc = dvk_vcopy(source, from, target, to, bytes);
    }
    must(rc, "vcopy");
  }

  int server_;
  char* memory_ = nullptr;
};

std::unique_ptr<Client> connect(const Plan& plan) { return std::make_unique<DvkClient>(plan); }

}  // namespace

const Transport kDvk{"dvk", serve, connect};

}  // namespace dvs::bench
