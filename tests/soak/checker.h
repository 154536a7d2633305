// Reads the histories of the clients and servers while they are written and holds them against each
// other and against a model of each server's state. Keeps only what is open.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "soak/history.h"
#include "soak/protocol.h"

namespace dvs::soak {

struct Totals {
  uint64_t answered = 0;
  uint64_t timed_out = 0;        // reported so to the client, of the hasty ones
  uint64_t timed_out_taken = 0;  // and yet the server had taken it
  uint64_t lost = 0;
  uint64_t duplicated = 0;
  uint64_t reordered = 0;
  uint64_t corrupted = 0;  // the server's state is not what the requests before make it
  uint64_t failed = 0;     // reported to a client with an error that nothing here can explain
};

class Checker {
 public:
  Checker(size_t servers, size_t state_bytes);

  void set_server(size_t index, History* history) { servers_[index].history = history; }
  void add_client(uint32_t id, History* history);
  // A client that has ended, when all it did has been read.
  void remove_client(uint32_t id);

  // Takes in all that was written until now.
  void read();
  // Whether since then each client has got an answer of each server.
  bool answered_since(int64_t ns) const;
  // How long a client has waited for a server's next answer at most, since the last call.
  double take_longest_gap_ms();
  Totals totals() const;
  // Whether nothing has been wrong so far.
  bool content() const;
  // What was wrong since the last call, in words; the first few.
  std::vector<std::string> take_violations();
  // Where each client is, for whoever wonders why nothing goes on.
  std::string describe() const;

 private:
  // What the server took and the client has not reported yet.
  struct Taken {
    uint64_t number, count, own, digest;
  };
  // Of one client with one server.
  struct Pair {
    uint64_t last_taken = 0;
    uint64_t last_reported = 0;
    uint64_t not_taken = 0;
    std::deque<Taken> taken;
    std::set<uint64_t> failed;   // reported as failed, not known to be taken
    int64_t answered_ns = 0;     // of the last answer
    int64_t waits_since_ns = 0;  // of the first request without an answer; 0: none
  };
  struct Server {
    explicit Server(size_t bytes) : state(bytes) {}
    History* history = nullptr;
    State state;
    uint64_t count = 0;
    std::map<uint32_t, Pair> clients;
  };
  struct Client {
    uint32_t id;
    History* history;
  };

  void read_server(Server& server, size_t index);
  void took(Server& server, size_t index, const Entry& entry);
  void reported(const Client& client, const Entry& entry);
  void answered(Pair& pair, const Client& client, const Entry& entry);
  void failed(Pair& pair, const Client& client, const Entry& entry);
  void wrong(uint64_t& counter, std::string what);

  mutable std::mutex mutex_;
  std::vector<Server> servers_;
  std::vector<Client> clients_;
  Totals totals_;
  bool content_ = true;
  std::vector<std::string> violations_;
  int64_t longest_gap_ns_ = 0;
};

}  // namespace dvs::soak
