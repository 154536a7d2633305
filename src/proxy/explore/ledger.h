// Keeps account, outside of the system, of what was asked, taken and answered, and judges it.
#pragma once

#include <map>
#include <tuple>

#include "proxy/explore/world.h"

namespace dvs::explore {

constexpr size_t kCopyBytes = 200;

class Ledger {
 public:
  explicit Ledger(World& world) : world_(world) {}

  // One call each, with its result judged. `buffer` (kCopyBytes, may be null) is offered to the
  // server for copying in both directions.
  void sendrec(Process& process, int endpoint, int target, dvk::Deadline deadline, char* buffer);
  void send(Process& process, int endpoint, int target, dvk::Deadline deadline);
  void notify(Process& process, int endpoint, int target, dvk::Deadline deadline);

  // A server received `m`. True: it has to be answered.
  bool received(int server, const message& m);
  message answer_to(const message& request) const;
  bool wants_copy(const message& m) const { return m.m1_p1 != nullptr; }
  bool is_timed(const message& m) const;
  void check_copy_in(const message& request, const char* bytes);
  void fill_copy_out(const message& request, char* bytes) const;

  // When all is quiet.
  void check_end();

 private:
  struct Entry {
    int client = 0;
    int server = 0;
    int taken = 0;
    bool answered = false;
    bool over = false;  // the client's call has returned
    int rc = 0;
  };
  struct Notifications {
    int tried = 0;
    int received = 0;
    long value_sent = 0;  // of the last that returned OK
    long value_received = 0;
  };

  message new_request(int endpoint, int target, int type, bool timed, char* buffer, int& id);
  void judge(const Entry& entry, int id, const char* call);
  static char pattern_byte(int id, size_t at, bool out);

  World& world_;
  std::map<int, Entry> entries_;
  std::map<std::pair<int, int>, int> last_taken_;               // client, server -> id
  std::map<std::pair<int, int>, Notifications> notifications_;  // source, destination
  int ids_ = 0;
};

}  // namespace dvs::explore
