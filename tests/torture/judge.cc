// What the harness expects of the region and of the calls of its workers.
#include <cstdio>

#include "torture/harness.h"

namespace dvs::torture {

using dvk::Descriptor;
using dvk::Kind;
using dvk::RxPhase;
using dvk::TxPhase;

namespace {

constexpr int64_t kWatchNs = 50 * kMs;

}  // namespace

// Nothing of who is gone may be left in its descriptor; with `sets`, nothing for it either.
void Harness::expect_idle(int actor, const char* when, bool sets) {
  const Descriptor& d = region_.at(slot(actor));
  const RxPhase wait = dvk::load_rx(d).phase;
  const bool closed = wait == RxPhase::kIdle || (wait == RxPhase::kAbandoned && !sets);
  const bool idle = dvk::load_tx(d).phase == TxPhase::kIdle && closed && d.busy.load() == 0 &&
                    d.inside.load() == 0 && d.touching[0].load() == 0 &&
                    d.touching[1].load() == 0 && (d.flags.load() & dvk::kMigrating) == 0;
  const bool empty = region_.senders(slot(actor)).find(0) == region_.slots() &&
                     region_.notifies(slot(actor)).find(0) == region_.slots();
  bool fills = false;
  for (int peer = 0; peer < kActors; ++peer) {
    const dvk::RxWord rx = dvk::load_rx(region_.at(slot(peer)));
    fills |= rx.phase == RxPhase::kFilling && rx.filler == slot(actor);
  }
  if (idle && !fills && (empty || !sets)) return;
  show(actor);
  ledger_.complain("something is left of actor " + std::to_string(actor) + " " + when);
}

void Harness::count_remains(const Process& process) {
  for (size_t i = 0; i < actors_left(process); ++i) {
    const int actor = process.actors[i];
    const Descriptor& d = region_.at(slot(actor));
    if (dvk::load_kind(d) == Kind::kFree) continue;
    const TxPhase tx = dvk::load_tx(d).phase;
    const RxPhase rx = dvk::load_rx(d).phase;
    remains_.in_call += d.busy.load() != 0 ? 1 : 0;
    remains_.posted += tx == TxPhase::kPosted ? 1 : 0;
    remains_.taken += tx == TxPhase::kTaken ? 1 : 0;
    remains_.done += tx == TxPhase::kDone || tx == TxPhase::kCancel ? 1 : 0;
    remains_.waiting += rx == RxPhase::kWaiting || rx == RxPhase::kParked ? 1 : 0;
    remains_.full += rx == RxPhase::kFull ? 1 : 0;
    remains_.filling += rx == RxPhase::kFilling ? 1 : 0;
    remains_.touching += d.touching[0].load() != 0 ? 1 : 0;
    for (int peer = 0; peer < kActors; ++peer) {
      const dvk::RxWord word = dvk::load_rx(region_.at(slot(peer)));
      const bool by_dead = word.phase == RxPhase::kFilling && word.filler == slot(actor);
      remains_.filled_by_dead += by_dead ? 1 : 0;
    }
  }
}

void Harness::show(int actor) const {
  const Descriptor& d = region_.at(slot(actor));
  const dvk::TxWord tx = dvk::load_tx(d);
  const dvk::RxWord rx = dvk::load_rx(d);
  const Actor& a = ledger_.actors[actor];
  const char* calls[2] = {a.call[0].load(), a.call[1].load()};
  std::printf(
      "actor %d, number %d, life %u: kind %u, tx phase %d rc %d number %llx kind %u peer %d, "
      "rx phase %d mode %d filter %u filler %u, busy %u inside %u touching %u %u flags %u; "
      "in %s / %s\n",
      actor, kCast[actor].number, a.life.load(), d.kind.load(), static_cast<int>(tx.phase), tx.rc,
      static_cast<unsigned long long>(tx.number), d.tx_kind.load(), d.tx_peer.load(),
      static_cast<int>(rx.phase), static_cast<int>(rx.mode), rx.filter, rx.filler, d.busy.load(),
      d.inside.load(), d.touching[0].load(), d.touching[1].load(), d.flags.load(),
      calls[0] != nullptr ? calls[0] : "-", calls[1] != nullptr ? calls[1] : "-");
}

// Nobody may be in a call beyond its deadline.
void Harness::watch() {
  const int64_t now = now_ns();
  next_watch_ns_ = now + kWatchNs;
  for (int i = 0; i < kActors; ++i) {
    for (int depth : {0, 1}) {
      const int64_t limit = ledger_.actors[i].limit_ns[depth].load();
      if (limit == 0 || now < limit + kSlackNs) continue;
      for (int each = 0; each < kActors; ++each) show(each);
      ledger_.complain("actor " + std::to_string(i) + " does not come back from " +
                       ledger_.actors[i].call[depth].load());
    }
  }
}

}  // namespace dvs::torture
