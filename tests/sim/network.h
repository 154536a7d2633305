// Links between simulated nodes: frames in order, until the link breaks with what is in flight.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "event_queue.h"

namespace dvs::sim {

class Network {
 public:
  // One end of a node's links: what a dvsd hears.
  class End {
   public:
    virtual ~End() = default;
    virtual void on_link_up(int peer) = 0;
    virtual void on_link_down(int peer) = 0;
    virtual void on_frame(int peer, const std::string& frame) = 0;
  };

  Network(EventQueue& events, int nodes) : events_(events), nodes_(nodes) {}

  void attach(int node, End& end, Life life);  // a dvsd has started: connects to all others
  // It has died. `silently`: with its machine, nobody closes its connections.
  void detach(int node, bool silently);
  bool is_up(int from, int to) const;  // as `from` knows
  bool send(int from, int to, std::string frame);
  // The connection is gone for both, each learns it at its own time; they connect again later.
  void break_link(int a, int b);
  // Nothing gets from `from` to `to` for so long; the other direction works. Longer than the
  // silence that links bear: it breaks, too.
  void stall(int from, int to, int64_t duration_ns);
  uint64_t frames() const { return frames_; }

 private:
  struct Side {
    bool up = false;
    uint64_t connection = 0;       // by which it is, or will be
    int64_t up_at_ns = 0;          // when it has heard of it
    int64_t last_arrival_ns = 0;   // of what this side sends
    int64_t stalled_until_ns = 0;  // likewise
  };
  struct Attached {
    End* end = nullptr;
    Life life = kForever;
  };

  Side& side(int from, int to) { return sides_[{from, to}]; }
  uint64_t& connection(int a, int b) { return connections_[{std::min(a, b), std::max(a, b)}]; }
  void close(int a, int b, int64_t noticed_ns);
  void connect_later(int a, int b);
  void connect(int a, int b);

  EventQueue& events_;
  const int nodes_;
  std::map<int, Attached> attached_;
  std::map<std::pair<int, int>, Side> sides_;
  std::map<std::pair<int, int>, uint64_t> connections_;  // numbered; a frame is of one
  uint64_t frames_ = 0;
};

}  // namespace dvs::sim
