// Single steps of dvsd on a region that the histories of proxy/explore/ reach only by way of many
// others, and capsules as input.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "dvk/node_parts.h"

namespace dvs::dvk {
namespace {

class NodeViewTest : public testing::Test {
 protected:
  static constexpr uint32_t kServer = 40;
  static constexpr uint32_t kClient = 41;

  void bind_at(const Region& region, uint32_t slot, uint32_t node, uint64_t incarnation = 1) {
    Identity identity;
    identity.endpoint = region.number_of(slot);
    identity.incarnation = incarnation;
    identity.epoch = 1;
    identity.node = node;
    identity.kind = node == region.header().local_node ? Kind::kLocal : Kind::kRemote;
    identity.name = "p" + std::to_string(slot);
    ASSERT_TRUE(bind(region, slot, identity));
  }
  // As a client's request that the server took looks in a region.
  void take_request(const Region& region, uint64_t number) {
    Descriptor& d = region.at(kClient);
    d.tx_kind.store(static_cast<uint32_t>(OpKind::kSendRec));
    d.tx_peer.store(region.number_of(kServer));
    d.rx.store(RxWord{RxPhase::kWaiting, RxMode::kAnswer, kServer, 0, 7}.pack());
    d.tx.store(TxWord{TxPhase::kTaken, 0, number}.pack());
  }
  static Region make(uint32_t node) {
    RegionSpec spec;
    spec.slots = 128;
    spec.local_node = node;
    return std::move(*Region::anonymous(spec));
  }

  Region source_ = make(0);
  Region target_ = make(1);
};

// A server may answer and end at once. dvsd may see the end before it has sent the answer home.
TEST_F(NodeViewTest, AnAnswerOutlivesWhoGaveIt) {
  for (const bool died : {false, true}) {
    Region region = make(0);
    bind_at(region, kServer, 0);
    bind_at(region, kClient, 2);
    take_request(region, 5);
    message answer{};
    answer.m_type = 3;
    ASSERT_TRUE(try_push(region, kServer, region.number_of(kClient), OpKind::kReply, answer, 0));
    if (died) bury(region, kServer);
    unbind(region, kServer);
    EXPECT_EQ(load_tx(region.at(kClient)).phase, TxPhase::kTaken) << "no error was put over it";
    EXPECT_EQ(load_rx(region.at(kClient)).phase, RxPhase::kFull);
    EXPECT_EQ(region.at(kClient).rx_message.load().m_type, 3);
  }
}

TEST_F(NodeViewTest, AMovedServerStillOwesWhatItTook) {
  for (Region* region : {&source_, &target_}) {
    bind_at(*region, kServer, 0);
    bind_at(*region, kClient, 2);
  }
  take_request(source_, 1ull << 40 | 5);
  const Capsule capsule = extract(source_, {kServer});
  ASSERT_TRUE(commit_here(target_, capsule, 1, 2));
  commit_away(source_, {kServer}, 1, 2);
  EXPECT_EQ(identity_of(target_, kServer).kind, Kind::kLocal);
  EXPECT_EQ(identity_of(source_, kServer).kind, Kind::kRemote);
  message answer{};
  answer.m_type = 3;
  const int client = target_.number_of(kClient);
  EXPECT_TRUE(try_push(target_, kServer, client, OpKind::kReply, answer, 0));
  EXPECT_FALSE(try_push(target_, kServer, client, OpKind::kReply, answer, 0)) << "twice";
}

// The server comes to where its client is about to leave, with the answer: the client is parked,
// and its request in a capsule as it was before. The answer would be lost, whether it leaves or
// not.
TEST_F(NodeViewTest, AServerArrivesAfterItsClientHasLeftOrStays) {
  for (const bool leaves : {true, false}) {
    source_ = make(0);
    target_ = make(1);
    bind_at(source_, kServer, 0);
    bind_at(source_, kClient, 1);
    bind_at(target_, kServer, 0);
    bind_at(target_, kClient, 1);
    take_request(source_, 5);
    message answer{};
    answer.m_type = 3;
    ASSERT_TRUE(try_push(source_, kServer, source_.number_of(kClient), OpKind::kReply, answer, 0));
    take_request(target_, 5);
    close_gate(target_, kClient);
    ASSERT_TRUE(settle(target_, {kClient}));
    ASSERT_EQ(load_rx(target_.at(kClient)).phase, RxPhase::kParked);

    const Capsule server = extract(source_, {kServer});
    EXPECT_FALSE(commit_here(target_, server, 1, 2));
    EXPECT_FALSE(is_answered(load_rx(target_.at(kClient))));
    leaves ? commit_away(target_, {kClient}, 2, 2) : open_gate(target_, kClient);
    ASSERT_TRUE(commit_here(target_, server, 1, 2));
    EXPECT_TRUE(is_answered(load_rx(target_.at(kClient)))) << "it is told, or can be when it asks";
    // The server goes on: one who is elsewhere may ask again, one who is here has it.
    const Capsule on = extract(target_, {kServer});
    ASSERT_EQ(on.debts.size(), 1u);
    EXPECT_EQ(on.debts.front().answered, leaves);
  }
}

TEST_F(NodeViewTest, AMovedServerIntroducesItsClientsToATargetThatHasNotHeardOfThem) {
  bind_at(source_, kServer, 0);
  bind_at(source_, kClient, 2, 9);
  take_request(source_, 9ull << 40 | 1);
  source_.notifies(kServer).set(kClient);
  ASSERT_TRUE(commit_here(target_, extract(source_, {kServer}), 1, 2));
  const Identity client = identity_of(target_, kClient);
  EXPECT_EQ(client.kind, Kind::kRemote);
  EXPECT_EQ(client.incarnation, 9u);
  EXPECT_EQ(client.node, 2u);
  EXPECT_EQ(client.name, "p41");
  EXPECT_EQ(load_tx(target_.at(kClient)).phase, TxPhase::kTaken);
  EXPECT_TRUE(target_.notifies(kServer).test(kClient));
}

TEST_F(NodeViewTest, CommitMayBeRepeated) {
  for (Region* region : {&source_, &target_}) bind_at(*region, kServer, 0);
  const Capsule capsule = extract(source_, {kServer});
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(commit_here(target_, capsule, 1, 2));
    commit_away(source_, {kServer}, 1, 2);
    // What happened since is not undone by the second time.
    Descriptor& d = target_.at(kServer);
    if (i == 0) d.tx.store(TxWord{TxPhase::kPosted, 0, 77}.pack());
    EXPECT_EQ(load_tx(d).number, 77u);
    EXPECT_FALSE(is_migrating(d));
  }
}

TEST_F(NodeViewTest, ANewOwnerOfASlotInheritsNothing) {
  bind_at(source_, kServer, 0);
  bind_at(source_, kClient, 0);
  take_request(source_, 1ull << 40 | 5);
  source_.notifies(kServer).set(kClient);
  source_.senders(kServer).set(kClient);
  bind_at(source_, kClient, 0, 2);
  EXPECT_EQ(load_tx(source_.at(kClient)).phase, TxPhase::kIdle);
  EXPECT_EQ(load_rx(source_.at(kClient)).phase, RxPhase::kIdle);
  EXPECT_FALSE(source_.notifies(kServer).test(kClient));
  EXPECT_FALSE(source_.senders(kServer).test(kClient));
}

// It looks at every slot, but at a word of each, and holds up nobody meanwhile.
TEST_F(NodeViewTest, AnEndpointOfTheLargestTableGoesQuickly) {
  RegionSpec spec;
  spec.slots = kMaxSlots;
  const Region region = std::move(*Region::anonymous(spec));
  bind_at(region, kClient, 0);
  auto best = std::chrono::nanoseconds::max();
  for (uint64_t i = 1; i <= 20; ++i) {
    bind_at(region, kMaxSlots - 1, 0, i);
    const auto begin = std::chrono::steady_clock::now();
    unbind(region, kMaxSlots - 1);
    best = std::min(best, std::chrono::steady_clock::now() - begin);
  }
  EXPECT_LT(best, std::chrono::milliseconds(200));  // about 1, without sanitizers
}

Identity next_owner(const Region& region, uint32_t slot) {
  return {region.number_of(slot), 2, 1, 0, Kind::kLocal, 1, 1, "next"};
}

TEST_F(NodeViewTest, ASlotIsNotGivenAwayWhileSomebodyWritesToItsLastOwner) {
  bind_at(source_, kServer, 0);
  bind_at(source_, kClient, 0);
  const RxWord wait{RxPhase::kFilling, RxMode::kAny, kAnySlot, kClient, 4};
  source_.at(kServer).rx.store(wait.pack());
  bury(source_, kServer);
  EXPECT_TRUE(unbind(source_, kServer));
  EXPECT_FALSE(bind(source_, kServer, next_owner(source_, kServer)));
  EXPECT_EQ(holders(source_, kServer), std::vector<uint32_t>{kClient});
  EXPECT_FALSE(swap_rx(source_.at(kServer), wait, wait.with(RxPhase::kFull)));
  bury(source_, kClient);  // in the middle of it
  EXPECT_TRUE(bind(source_, kServer, next_owner(source_, kServer)));
}

TEST_F(NodeViewTest, ASlotIsNotGivenAwayWhileSomebodyTouchesItsLastOwner) {
  bind_at(source_, kServer, 0);
  bind_at(source_, kClient, 0);
  source_.at(kClient).touching[0].store(kServer + 1);
  bury(source_, kServer);
  EXPECT_TRUE(unbind(source_, kServer));
  EXPECT_FALSE(bind(source_, kServer, next_owner(source_, kServer)));
  source_.at(kClient).touching[0].store(0);
  EXPECT_TRUE(bind(source_, kServer, next_owner(source_, kServer)));
}

TEST_F(NodeViewTest, ASlotIsNotGivenAwayWhileItsLastOwnerIsInACall) {
  bind_at(source_, kServer, 0);
  bind_at(source_, kClient, 0);
  take_request(source_, 1ull << 40 | 5);
  source_.at(kServer).inside.store(17);
  EXPECT_FALSE(unbind(source_, kServer));
  EXPECT_EQ(load_kind(source_.at(kServer)), Kind::kFree) << "nobody finds it any more";
  EXPECT_EQ(load_tx(source_.at(kClient)).phase, TxPhase::kTaken) << "it may just be answering";
  EXPECT_FALSE(bind(source_, kServer, next_owner(source_, kServer)));
  source_.at(kServer).inside.store(0);
  EXPECT_TRUE(bind(source_, kServer, next_owner(source_, kServer)));
  EXPECT_EQ(load_tx(source_.at(kClient)), (TxWord{TxPhase::kDone, EDVSSRCDIED, 1ull << 40 | 5}));
}

TEST_F(NodeViewTest, CapsulesThatMakeNoSenseAreRefused) {
  bind_at(source_, kServer, 0);
  bind_at(source_, kClient, 2);
  take_request(source_, 1ull << 40 | 5);
  source_.notifies(kServer).set(kClient);
  const std::string good = encode_capsule(extract(source_, {kServer}));
  ASSERT_TRUE(decode_capsule(good, 128).ok());
  EXPECT_EQ(encode_capsule(*decode_capsule(good, 128)), good);
  EXPECT_FALSE(decode_capsule(good, kServer).ok()) << "slots out of range";
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_capsule(std::string_view(good).substr(0, size), 128).ok()) << size;
  }
  std::mt19937_64 rng(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bad = good;
    for (int n = 0; n < 3; ++n) bad[rng() % bad.size()] = static_cast<char>(rng());
    // Whatever it says now, it does no harm to the node.
    if (auto capsule = decode_capsule(bad, 128); capsule.ok()) {
      Region region = make(1);
      bind_at(region, kClient, 2);
      static_cast<void>(commit_here(region, *capsule, 1, 2));
    }
  }
}

// A receiver that is killed in the middle of a search leaves a member without its hint.
TEST_F(NodeViewTest, WhatASearchHasHiddenIsClearedToo) {
  constexpr uint32_t kSlots = 128;
  std::vector<Atomic<uint64_t>> words(SlotSet::size_in_words(kSlots));
  const SlotSet set(words.data(), kSlots);
  words[1].store(8);
  ASSERT_EQ(set.find(0), kSlots);
  clear_set(source_, set);
  EXPECT_EQ(words[1].load(), 0u);
}

}  // namespace
}  // namespace dvs::dvk
