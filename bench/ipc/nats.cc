// NATS: request and reply through a nats-server, whose address the plan has.
#include <nats/nats.h>

#include <cstring>

#include "ipc/die.h"
#include "ipc/transport.h"

namespace dvs::bench {
namespace {

constexpr const char* kSubject = "bench";
constexpr int64_t kLimitMs = 10'000;

void must(natsStatus status, const char* what) {
  if (status != NATS_OK) {
    die_plainly(std::string("nats: ") + what + ": " + natsStatus_GetText(status));
  }
}

natsConnection* connect_to(const Plan& plan) {
  natsOptions* options = nullptr;
  must(natsOptions_Create(&options), "options");
  must(natsOptions_SetURL(options, ("nats://" + plan.address).c_str()), "the URL");
  must(natsOptions_SetSendAsap(options, true), "options");
  natsConnection* connection = nullptr;
  must(natsConnection_Connect(&connection, options), "connect");
  natsOptions_Destroy(options);
  return connection;
}

void serve(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  natsConnection* connection = connect_to(plan);
  natsSubscription* requests = nullptr;
  must(natsConnection_SubscribeSync(&requests, connection, kSubject), "subscribe");
  must(natsConnection_Flush(connection), "flush");
  ready(plan.address);
  for (;;) {
    natsMsg* m = nullptr;
    const natsStatus status = natsSubscription_NextMsg(&m, requests, 1000);
    if (status == NATS_TIMEOUT) continue;
    must(status, "next message");
    must(natsConnection_Publish(connection, natsMsg_GetReply(m), natsMsg_GetData(m),
                                natsMsg_GetDataLength(m)),
         "publish");
    natsMsg_Destroy(m);
  }
}

class NatsClient : public Client {
 public:
  explicit NatsClient(const Plan& plan) : connection_(connect_to(plan)) {}

  void call(Message& m) override {
    natsMsg* answer = nullptr;
    must(natsConnection_Request(&answer, connection_, kSubject, m.data(), sizeof m, kLimitMs),
         "request");
    if (natsMsg_GetDataLength(answer) != sizeof m) die_plainly("nats: an answer of another size");
    std::memcpy(m.data(), natsMsg_GetData(answer), sizeof m);
    natsMsg_Destroy(answer);
  }

 private:
  natsConnection* connection_;
};

std::unique_ptr<Client> connect(const Plan& plan) { return std::make_unique<NatsClient>(plan); }

}  // namespace

const Transport kNats{"nats", serve, connect};

}  // namespace dvs::bench
