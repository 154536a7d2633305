// dvs-soak-client HISTORY ID SERVERS PAUSE_US: sends numbered requests to the servers in turn,
// until SIGTERM.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/clock.h"
#include "integration/programs/common.h"
#include "soak/history.h"
#include "soak/protocol.h"

namespace dvs::soak {
namespace {

// Some requests have so little time that a migration lets it run out: such a one may be taken or
// not, and what follows it must be as if nothing had been.
constexpr uint64_t kHastyEvery = 16;
constexpr long kHastyMs = 25;

class Client {
 public:
  Client(History& history, int id, size_t servers)
      : history_(history), id_(id), numbers_(servers) {}

  int run(useconds_t pause_us) {
    for (size_t i = 0; i < numbers_.size(); ++i) {
      const int bound = dvk_wait4bindep_T(kFirstServer + static_cast<int>(i), TIMEOUT_MOLCALL);
      if (DVK_IS_ERROR(bound)) return fail("wait for a server", bound);
    }
    while (!programs::told_to_stop()) {
      for (size_t i = 0; i < numbers_.size(); ++i) ask(i);
      if (pause_us > 0) ::usleep(pause_us);
    }
    history_.closed = 1;
    return 0;
  }

 private:
  static int fail(const char* what, int rc) {
    std::fprintf(stderr, "dvs-soak-client: %s: error %d\n", what, rc);
    return 1;
  }
  void ask(size_t server) {
    while (history_.lag() >= History::kClientsLag) ::usleep(200);
    Entry entry;
    entry.peer = static_cast<uint32_t>(server);
    entry.number = ++numbers_[server];
    message m = {};
    m.m_type = kRequest;
    m.m2_i1 = id_;
    m.m2_l1 = static_cast<long>(entry.number);
    const bool hasty = entry.number % kHastyEvery == 0;
    entry.sent_ns = realtime_ns();
    entry.rc = dvk_sendrec_T(kFirstServer + static_cast<int>(server), &m,
                             hasty ? kHastyMs : TIMEOUT_MOLCALL);
    entry.answered_ns = realtime_ns();
    if (entry.rc == OK) take_answer(m, entry);
    history_.add(entry);
    if (entry.rc != OK && entry.rc != EDVSTIMEDOUT) ::usleep(10'000);
  }
  static void take_answer(const message& m, Entry& entry) {
    if (m.m_type != kAnswer || m.m4_l1 != static_cast<long>(entry.number)) entry.rc = EDVSINVAL;
    entry.count = static_cast<uint64_t>(m.m4_l2);
    entry.own = static_cast<uint64_t>(m.m4_l3);
    entry.digest = static_cast<uint64_t>(m.m4_l4);
  }

  History& history_;
  const int id_;
  std::vector<uint64_t> numbers_;  // of the last request to each server
};

}  // namespace
}  // namespace dvs::soak

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: dvs-soak-client HISTORY ID SERVERS PAUSE_US\n");
    return 2;
  }
  dvs::programs::hold_sigterm();
  dvs::soak::History* history = dvs::soak::map_history(argv[1], false);
  if (history == nullptr) {
    std::perror(argv[1]);
    return 1;
  }
  dvs::soak::Client client(*history, std::atoi(argv[2]), std::strtoul(argv[3], nullptr, 10));
  return client.run(static_cast<useconds_t>(std::atoi(argv[4])));
}
