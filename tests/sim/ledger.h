// Keeps account, outside of the system, of what was asked, taken and answered, and judges it.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "dvk/dvk.h"

namespace dvs::sim {

// Of one DC: messages of another have other marks.
class Ledger {
 public:
  explicit Ledger(uint32_t dc) : mark_(dc << 28) {}

  // A new request of a client to a server, and what it is told in the end; empty, or what is wrong.
  message ask(int client, int server);
  std::string told(int id, int rc, const message& answer, bool somebody_was_lost);
  // A server has received one, and answers.
  std::string taken(int server, const message& request);
  void forget(int client);  // it has ended, and waits for nothing
  message answer_to(const message& request) const;

  uint64_t requests() const { return requests_.size(); }
  uint64_t answered() const { return answered_; }
  // Who waits for ever; empty: nobody.
  std::string unanswered() const;

 private:
  struct Request {
    int client = 0;
    int server = 0;
    int taken = 0;
    bool over = false;
  };
  int check_word(int id, int type) const;

  const uint32_t mark_;
  std::map<int, Request> requests_;
  std::map<std::pair<int, int>, int> last_taken_;  // client, server: the number
  uint64_t answered_ = 0;
};

}  // namespace dvs::sim
