// A region in which somebody has written whatever they liked, and all that dvsd does with a region:
// each step must come back soon and touch nothing outside (the sanitizers look).
//
// DVS_SEED=n runs one region, DVS_HOSTILE_REGIONS=n sets how many.
#include <gtest/gtest.h>

#include <climits>
#include <cstdlib>
#include <random>
#include <thread>

#include "dvk/node_view.h"
#include "proxy/remote_ops.h"

namespace dvs {
namespace {

using dvk::Descriptor;
using dvk::Kind;
using dvk::Region;

constexpr uint32_t kSelf = 1;
constexpr auto kSoon = std::chrono::seconds(10);

class Liar {
 public:
  explicit Liar(uint64_t seed) : rng_(seed) {}

  uint64_t number() { return rng_(); }
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(rng_() % limit); }
  bool chance(uint32_t percent) { return below(100) < percent; }
  uint32_t slot(const Region& region) { return below(region.slots()); }

  int endpoint(const Region& region) {
    const int odd[] = {
        INT_MIN,          INT_MAX,           -1, ANY, NONE, SELF, -NR_TASKS, -NR_TASKS - 1,
        _ENDPOINT(3, 70), INT_MAX - NR_TASKS};
    if (chance(30)) return odd[below(std::size(odd))];
    return region.number_of(slot(region));
  }
  uint64_t incarnation() { return chance(20) ? UINT64_MAX : below(4); }
  uint32_t epoch() { return chance(20) ? UINT32_MAX : below(4); }

  // Values that exist, and those that do not.
  dvk::TxWord tx() {
    dvk::TxWord word;
    word.phase = static_cast<dvk::TxPhase>(below(chance(80) ? 5 : 16));
    word.rc = static_cast<int>(below(4096)) - 2048;
    word.number = chance(80) ? below(4) : rng_() >> 16;
    return word;
  }
  dvk::RxWord rx(const Region& region) {
    dvk::RxWord word;
    word.phase = static_cast<dvk::RxPhase>(below(chance(80) ? 5 : 16));
    word.mode = static_cast<dvk::RxMode>(below(chance(80) ? 3 : 16));
    word.filter = static_cast<uint16_t>(chance(70) ? slot(region) : number());
    word.filler = static_cast<uint16_t>(chance(70) ? slot(region) : number());
    word.tag = static_cast<uint32_t>(number());
    return word;
  }

  void lie(const Region& region, Descriptor& d) {
    d.kind.store(below(chance(80) ? 5 : 200));
    d.endpoint.store(endpoint(region));
    d.node.store(chance(80) ? below(4) : static_cast<uint32_t>(number()));
    d.epoch.store(epoch());
    d.incarnation.store(incarnation());
    d.pid.store(static_cast<int>(number()));
    d.tid.store(static_cast<int>(number()));
    d.flags.store(below(4));
    d.inside.store(below(2));
    d.busy.store(static_cast<uint32_t>(number()));
    d.rx.store(rx(region).pack());
    d.rx_kind.store(below(8));
    d.next_sender.store(static_cast<uint32_t>(number()));
    d.tx.store(tx().pack());
    d.tx_kind.store(below(chance(80) ? 6 : 300));
    d.tx_peer.store(endpoint(region));
    for (auto& touched : d.touching) touched.store(static_cast<uint32_t>(number()));
    d.copy_source.store(endpoint(region));
    d.copy_target.store(endpoint(region));
    d.copy_source_addr.store(number());
    d.copy_target_addr.store(number());
    d.copy_bytes.store(chance(50) ? below(1 << 20) : number());
  }

  // Through atomics, as the region's owners do, so that it may be done while others look.
  void scribble(const Region& region, size_t words) {
    auto* const begin = reinterpret_cast<dvk::Atomic<uint64_t>*>(&region.at(0));
    const size_t all = bytes_of(region) / sizeof(uint64_t);
    for (size_t i = 0; i < words; ++i) begin[number() % all].store(chance(50) ? number() : 0);
  }
  void fill(const Region& region) {
    if (chance(30)) return scribble(region, bytes_of(region) / sizeof(uint64_t));
    for (uint32_t each = 0; each < region.slots(); ++each) {
      lie(region, region.at(each));
      for (dvk::SlotSet set : {region.senders(each), region.notifies(each)}) {
        for (uint32_t members = below(4); members > 0; --members) set.set(slot(region));
      }
      if (chance(30)) region.outbound().set(each);
    }
    dvk::RegionHeader& header = region.header();
    header.copy_chunk = chance(50) ? static_cast<uint32_t>(number()) : 0;
    header.max_copy_bytes = chance(50) ? UINT32_MAX : 1 << 20;
    header.local_node = static_cast<uint32_t>(number());
    header.slots = header.tasks = header.sysprocs = UINT32_MAX;  // known from before
    header.total_size = 0;
  }

  std::vector<uint32_t> slots(const Region& region) {
    std::vector<uint32_t> some;
    for (uint32_t i = 1 + below(4); i > 0; --i) some.push_back(slot(region));
    return some;
  }
  dvk::Identity identity(const Region& region) {
    return {endpoint(region),
            incarnation(),
            epoch(),
            below(4),
            static_cast<Kind>(1 + below(4)),
            static_cast<int>(number()),
            static_cast<int>(number()),
            std::string(below(40), 'n')};
  }

  wire::Operation operation(const Region& region) {
    wire::Operation o;
    o.type = static_cast<wire::OperationType>(1 + below(10));
    o.slot = chance(90) ? slot(region) : static_cast<uint32_t>(number());
    o.incarnation = incarnation();
    o.number = chance(80) ? below(4) : number();
    o.kind = static_cast<uint8_t>(below(chance(80) ? 6 : 256));
    o.peer = endpoint(region);
    o.peer_incarnation = incarnation();
    o.epoch = epoch();
    o.home_epoch = epoch();
    o.rc = chance(50) ? 0 : static_cast<int>(number());
    o.step = below(40);
    o.offset = chance(80) ? 0 : number();
    o.address = number();
    o.length = static_cast<uint32_t>(number());
    o.data = Bytes(std::string(below(4096), 0));
    return o;
  }

  dvk::Capsule capsule(const Region& region) {
    dvk::Capsule capsule;
    for (uint32_t each : slots(region)) {
      dvk::CapsuleEndpoint e;
      e.slot = each;
      e.endpoint = endpoint(region);
      e.incarnation = incarnation();
      e.flags = static_cast<uint32_t>(number());
      e.event = static_cast<uint32_t>(number());
      e.rx = rx(region);
      e.tx = tx();
      e.tx_kind = below(300);
      e.tx_peer = endpoint(region);
      e.next_sender = static_cast<uint32_t>(number());
      for (uint32_t i = below(4); i > 0; --i) {
        e.notifications.push_back(
            {static_cast<uint16_t>(slot(region)), incarnation(), number(), 1});
      }
      capsule.endpoints.push_back(std::move(e));
    }
    for (uint32_t each : slots(region)) {
      capsule.debts.push_back(
          {each, incarnation(), tx(), below(300), endpoint(region), chance(50), {}});
    }
    for (uint32_t each : slots(region)) {
      capsule.peers.push_back({each, endpoint(region), incarnation(), epoch(),
                               static_cast<uint32_t>(number()), "peer"});
    }
    return capsule;
  }

 private:
  static size_t bytes_of(const Region& region) {
    const size_t words = dvk::SlotSet::size_in_words(region.slots());
    return region.slots() * sizeof(Descriptor) +
           (size_t{region.slots()} * 2 + 1) * words * sizeof(uint64_t);
  }
  std::mt19937_64 rng_;
};

// Other nodes, and processes' memory, that answer anything.
struct AnyEnv : RemoteOps::Env {
  explicit AnyEnv(Liar& l) : liar(l) {}
  bool send(NodeId, const wire::Operation&) override { return liar.chance(70); }
  bool is_forgotten(uint32_t, uint64_t) const override { return false; }
  void drive_later(uint32_t slot) override { later.push_back(slot); }
  int read_memory(uint32_t, uint64_t, char* to, size_t bytes) override {
    std::fill(to, to + bytes, 'r');
    return liar.chance(refusals) ? EDVSFAULT : OK;
  }
  int write_memory(uint32_t, uint64_t, const char*, size_t) override {
    return liar.chance(refusals) ? EDVSFAULT : OK;
  }
  Liar& liar;
  uint32_t refusals = 30;  // percent
  std::vector<uint32_t> later;
};

class HostileRegion : public testing::Test {
 protected:
  static Region make(Liar& liar) {
    dvk::RegionSpec spec;
    const uint32_t sizes[] = {128, 200, 1024};
    spec.slots = sizes[liar.below(3)];
    spec.local_node = kSelf;
    return std::move(*Region::anonymous(spec));
  }

  // One thing that dvsd does.
  static void act(const Region& region, RemoteOps& ops, AnyEnv& env, Liar& liar) {
    const uint32_t slot = liar.slot(region);
    switch (liar.below(18)) {
      case 0:
        return static_cast<void>(dvk::bind(region, slot, liar.identity(region)));
      case 1:
        return static_cast<void>(dvk::unbind(region, slot));
      case 2:
        return dvk::bury(region, slot);
      case 3:
        return dvk::drop_standby(region, slot);
      case 4:
        return dvk::close_gate(region, slot);
      case 5:
        dvk::settle(region, liar.slots(region));
        return;
      case 6:
      case 7:
        return expect_whole(region, dvk::extract(region, liar.slots(region)));
      case 8:
        return dvk::commit_away(region, liar.slots(region), liar.below(4), liar.epoch());
      case 9:
        return static_cast<void>(
            dvk::commit_here(region, liar.capsule(region), kSelf, liar.epoch()));
      case 10:
        return dvk::open_gate(region, slot);
      case 11:
        return ops.on_doorbell();
      case 12:
        return ops.drive_all();
      case 13:
        return ops.on_link_up(static_cast<NodeId>(liar.below(4)));
      case 14:
        return ops.on_place_changed(slot);
      case 15:
        for (uint32_t each : std::exchange(env.later, {})) ops.drive(each);
        return;
      default:
        for (int i = 0; i < 10; ++i) {
          ops.on_operation(static_cast<NodeId>(liar.below(4)), liar.operation(region));
        }
    }
  }

  // What the region says, however wrong, fits a capsule for a region of its size.
  static void expect_whole(const Region& region, const dvk::Capsule& capsule) {
    const auto decoded = dvk::decode_capsule(dvk::encode_capsule(capsule), region.slots());
    EXPECT_TRUE(decoded.ok()) << decoded.error().message();
  }

  static void play(const Region& region, Liar& liar, int steps) {
    AnyEnv env(liar);
    RemoteOps ops(region, kSelf, env);
    for (int i = 0; i < steps; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      act(region, ops, env, liar);
      ASSERT_LT(std::chrono::steady_clock::now() - begin, kSoon);
      if (liar.chance(10)) liar.fill(region);
      if (liar.chance(30)) liar.scribble(region, 20);
    }
  }

  static uint64_t env_number(const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
  }
};

TEST_F(HostileRegion, CostsDvsdNothing) {
  const uint64_t only = env_number("DVS_SEED", 0);
  const uint64_t regions = only != 0 ? 1 : env_number("DVS_HOSTILE_REGIONS", 60);
  const uint64_t first = only != 0 ? only : std::random_device()();
  for (uint64_t seed = first; seed < first + regions; ++seed) {
    SCOPED_TRACE("DVS_SEED=" + std::to_string(seed));
    Liar liar(seed);
    const Region region = make(liar);
    liar.fill(region);
    play(region, liar, 100);
    if (HasFailure()) return;
  }
}

TEST_F(HostileRegion, MayChangeAtAnyMoment) {
  const uint64_t seed = env_number("DVS_SEED", std::random_device()());
  SCOPED_TRACE("DVS_SEED=" + std::to_string(seed));
  Liar liar(seed);
  for (int round = 0; round < 5; ++round) {
    const Region region = make(liar);
    std::atomic<bool> stop = false;
    std::thread scribbler([&, seed] {
      Liar other(seed + 1);
      // All bits of a set, again and again, is the worst for who empties it.
      while (!stop) {
        other.scribble(region, 50);
        for (uint32_t i = 0; i < 10; ++i) {
          other.lie(region, region.at(other.slot(region)));
          dvk::SlotSet set = region.notifies(other.slot(region));
          for (uint32_t member = 0; member < region.slots(); ++member) set.set(member);
        }
      }
    });
    play(region, liar, 200);
    stop = true;
    scribbler.join();
  }
}

// Such a copy would keep dvsd busy for hours: byte by byte, as many as the header is made to allow.
TEST_F(HostileRegion, AsksForAnEndlessCopy) {
  Liar liar(1);
  const Region region = make(liar);
  AnyEnv env(liar);
  env.refusals = 0;
  RemoteOps ops(region, kSelf, env);
  for (int number : {5, 6}) {
    ASSERT_TRUE(
        dvk::bind(region, region.slot_of(number), {number, 1, 1, kSelf, Kind::kLocal, 1, 1, "p"}));
  }
  region.header().max_copy_bytes = UINT32_MAX;
  region.header().copy_chunk = 1;
  const uint32_t slot = region.slot_of(5);
  Descriptor& d = region.at(slot);
  region.at(region.slot_of(6)).rx.store(dvk::RxWord{dvk::RxPhase::kWaiting}.pack());
  for (uint64_t bytes : {uint64_t{UINT32_MAX}, uint64_t{MAXCOPYLEN}}) {
    d.copy_source.store(5);
    d.copy_target.store(6);
    d.copy_bytes.store(bytes);
    d.tx_kind.store(static_cast<uint32_t>(dvk::OpKind::kVcopy));
    d.tx_peer.store(6);
    d.tx.store(dvk::TxWord{dvk::TxPhase::kPosted, 0, bytes}.pack());
    const auto begin = std::chrono::steady_clock::now();
    ops.drive(slot);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(500)) << bytes;
    ops.drive_all();
  }
}

}  // namespace
}  // namespace dvs
