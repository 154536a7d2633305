// nng: req and rep, push and pull.
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

#include "ipc/die.h"
#include "ipc/transport.h"

namespace dvs::bench {
namespace {

void must(int rc, const char* what) {
  if (rc != 0) die_plainly(std::string("nng: ") + what + ": " + nng_strerror(rc));
}

std::string url_of(const Plan& plan) {
  return (plan.address.starts_with('/') ? "ipc://" : "tcp://") + plan.address;
}

void give(nng_socket socket, const Message& m) {
  must(nng_send(socket, const_cast<char*>(m.data()), m.size(), 0), "nng_send");
}
void take(nng_socket socket, Message& m) {
  size_t size = m.size();
  must(nng_recv(socket, m.data(), &size, 0), "nng_recv");
}

void serve(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  const bool answers = plan.pattern == Pattern::kCall;
  nng_socket socket{};
  must(answers ? nng_rep0_open(&socket) : nng_pull0_open(&socket), "open");
  must(nng_listen(socket, url_of(plan).c_str(), nullptr, 0), "nng_listen");
  ready(plan.address);
  for (;;) {
    Message m;
    take(socket, m);
    if (answers) give(socket, m);
  }
}

class NngClient : public Client {
 public:
  explicit NngClient(const Plan& plan) {
    const bool calls = plan.pattern == Pattern::kCall;
    must(calls ? nng_req0_open(&socket_) : nng_push0_open(&socket_), "open");
    must(nng_dial(socket_, url_of(plan).c_str(), nullptr, 0), "nng_dial");
  }
  void call(Message& m) override {
    give(socket_, m);
    take(socket_, m);
  }
  void send(const Message& m) override { give(socket_, m); }

 private:
  nng_socket socket_{};
};

std::unique_ptr<Client> connect(const Plan& plan) { return std::make_unique<NngClient>(plan); }

}  // namespace

const Transport kNng{"nng", serve, connect};

}  // namespace dvs::bench
