// The soak: round after round of migrations, with what goes wrong meanwhile, and a look at
// everything after each.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "soak/crew.h"
#include "soak/observer.h"
#include "soak/tally.h"
#include "soak/trouble.h"

namespace dvs::soak {

class Run {
 public:
  Run(Cluster& cluster, Crew& crew, const Options& options);
  // False: something was wrong; the tally has it.
  bool all();
  const Tally& tally() const { return tally_; }

 private:
  void warm_up();
  void one_round(Round round);
  bool is_over() const;

  Leg choose_leg(size_t server, const std::string& algorithm, uint32_t dice) const;
  Leg first_leg(const Round& round, size_t server) const;
  std::vector<std::string> nodes_left() const;
  void travel(size_t server, const Journey& journey, const Leg& first);
  void migrate(size_t server, const Leg& leg);

  bool choose_node_to_lose(Round& round);
  Outcome let_move(const Round& round, const std::vector<Leg>& first);
  void recover(const Round& round, const Outcome& outcome);
  void settle(const Round& round, const Outcome& outcome);
  bool await_settled();
  void start_again(const std::string& node);
  void account(const std::string& cause);

  void begin_growth();
  void end_growth();
  void wrong(const std::string& what);
  bool failed() const;
  void update();

  Cluster& cluster_;
  Crew& crew_;
  const Options& options_;
  Observer observer_;
  Tally tally_;
  mutable std::mutex mutex_;  // of the tally, while servers travel
  std::atomic<bool> disturbed_ = false;
  std::string avoided_;            // a node that is going to be off
  double longest_request_ms_ = 0;  // for a migration, in this round
  std::string plan_;               // of this round, in words
  Footprint footprint_;
  uint64_t counted_before_ = 0;  // migrations when the footprint was taken
  int64_t began_ns_ = 0;
  int64_t told_ns_ = 0;
};

}  // namespace dvs::soak
