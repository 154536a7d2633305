#include "ipc/transport.h"

#include "ipc/die.h"

namespace dvs::bench {

void Client::call(Message&) { die_plainly("this transport has no calls"); }
void Client::send(const Message&) { die_plainly("this transport has no one-way messages"); }
void Client::notify() { die_plainly("this transport has no notifications"); }
void Client::get(char*, size_t) { die_plainly("this transport copies nothing"); }
void Client::put(const char*, size_t) { die_plainly("this transport copies nothing"); }

const Transport& transport_named(const std::string& name) {
  for (const Transport* known :
       {&kDvk, &kPipe, &kMessageQueue, &kEventfd, &kUnixStream, &kSeqpacket, &kTcp, &kProcessVm,
        &kMemcpy, &kZeroMq, &kNng, &kGrpc, &kNats}) {
    if (name == known->name) return *known;
  }
  die_plainly("there is no transport '" + name + "'");
}

}  // namespace dvs::bench
