#include "network.h"

#include <algorithm>

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSilenceNs = 4'000 * kMs;

}  // namespace

void Network::attach(int node, End& end, Life life) {
  attached_[node] = {&end, life};
  for (int other = 0; other < nodes_; ++other) {
    if (other != node) connect_later(node, other);
  }
}

void Network::detach(int node, bool silently) {
  attached_.erase(node);
  for (int other = 0; other < nodes_; ++other) {
    if (other == node) continue;
    side(node, other).up = false;
    close(node, other, silently ? kSilenceNs : 20 * kMs);
  }
}

bool Network::is_up(int from, int to) const {
  const auto found = sides_.find({from, to});
  return found != sides_.end() && found->second.up;
}

void Network::connect_later(int a, int b) {
  events_.after(events_.between_ns(1 * kMs, 150 * kMs), kForever, [this, a, b] { connect(a, b); });
}

void Network::connect(int a, int b) {
  if (attached_.count(a) == 0 || attached_.count(b) == 0) return;
  if (is_up(a, b) || is_up(b, a)) return;
  const bool begun = side(a, b).connection == connection(a, b) && connection(a, b) != 0;
  if (begun) return;  // both will hear of it
  if (side(a, b).stalled_until_ns > events_.now_ns() ||
      side(b, a).stalled_until_ns > events_.now_ns()) {
    return connect_later(a, b);
  }
  const uint64_t number = ++connection(a, b);
  for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
    const int64_t heard = events_.between_ns(100'000, 2 * kMs);
    side(from, to) = {false, number, events_.now_ns() + heard, 0, 0};
    const Attached& attached = attached_.at(from);
    events_.after(heard, attached.life, [this, from = from, to = to, number, end = attached.end] {
      if (connection(from, to) != number) return;
      side(from, to).up = true;
      end->on_link_up(to);
    });
  }
}

void Network::break_link(int a, int b) { close(a, b, 20 * kMs); }

// Each side that has a connection notices its end, `noticed_ns` later at most.
void Network::close(int a, int b, int64_t noticed_ns) {
  ++connection(a, b);
  for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
    const Side& mine = side(from, to);
    const auto attached = attached_.find(from);
    if (!mine.up || attached == attached_.end()) continue;
    events_.after(
        events_.between_ns(0, noticed_ns), attached->second.life,
        [this, from = from, to = to, number = mine.connection, end = attached->second.end] {
          Side& noticing = side(from, to);
          if (!noticing.up || noticing.connection != number) return;
          noticing.up = false;
          end->on_link_down(to);
          connect_later(from, to);
        });
  }
  connect_later(a, b);
}

bool Network::send(int from, int to, std::string frame) {
  Side& mine = side(from, to);
  if (!mine.up) return false;
  ++frames_;
  const auto peer = attached_.find(to);
  if (peer == attached_.end()) return true;  // lost with it
  int64_t arrival = events_.now_ns() + events_.between_ns(20'000, 400'000);
  arrival = std::max(
      {arrival, mine.last_arrival_ns + 1, mine.stalled_until_ns, side(to, from).up_at_ns + 1});
  mine.last_arrival_ns = arrival;
  events_.after(
      arrival - events_.now_ns(), peer->second.life,
      [this, from, to, number = mine.connection, end = peer->second.end, frame = std::move(frame)] {
        if (connection(from, to) == number) end->on_frame(from, frame);
      });
  return true;
}

void Network::stall(int from, int to, int64_t duration_ns) {
  side(from, to).stalled_until_ns = events_.now_ns() + duration_ns;
  if (duration_ns < kSilenceNs) return;
  events_.after(kSilenceNs, kForever, [this, from, to] { break_link(from, to); });
}

}  // namespace dvs::sim
