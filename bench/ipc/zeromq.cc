// ZeroMQ: REQ and REP, PUSH and PULL.
#include <zmq.h>

#include "ipc/die.h"
#include "ipc/transport.h"

namespace dvs::bench {
namespace {

void must(bool good, const char* what) {
  if (!good) die_plainly(std::string("zeromq: ") + what + ": " + zmq_strerror(zmq_errno()));
}

std::string url_of(const Plan& plan) {
  return (plan.address.starts_with('/') ? "ipc://" : "tcp://") + plan.address;
}

// The context lives as long as the process.
void* open_socket(int type) {
  void* context = zmq_ctx_new();
  must(context != nullptr, "zmq_ctx_new");
  void* socket = zmq_socket(context, type);
  must(socket != nullptr, "zmq_socket");
  return socket;
}

void give(void* socket, const Message& m) {
  must(zmq_send(socket, m.data(), m.size(), 0) == sizeof m, "zmq_send");
}
void take(void* socket, Message& m) {
  must(zmq_recv(socket, m.data(), m.size(), 0) == sizeof m, "zmq_recv");
}

void serve(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  const bool answers = plan.pattern == Pattern::kCall;
  void* socket = open_socket(answers ? ZMQ_REP : ZMQ_PULL);
  must(zmq_bind(socket, url_of(plan).c_str()) == 0, "zmq_bind");
  ready(plan.address);
  for (;;) {
    Message m;
    take(socket, m);
    if (answers) give(socket, m);
  }
}

class ZeroMqClient : public Client {
 public:
  explicit ZeroMqClient(const Plan& plan)
      : socket_(open_socket(plan.pattern == Pattern::kCall ? ZMQ_REQ : ZMQ_PUSH)) {
    must(zmq_connect(socket_, url_of(plan).c_str()) == 0, "zmq_connect");
  }
  void call(Message& m) override {
    give(socket_, m);
    take(socket_, m);
  }
  void send(const Message& m) override { give(socket_, m); }

 private:
  void* socket_;
};

std::unique_ptr<Client> connect(const Plan& plan) { return std::make_unique<ZeroMqClient>(plan); }

}  // namespace

const Transport kZeroMq{"zmq", serve, connect};

}  // namespace dvs::bench
