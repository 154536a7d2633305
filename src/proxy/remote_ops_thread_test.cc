// Real threads that block in real calls on three nodes of one process, while one more thread is all
// the dvsds: it carries frames, breaks links, restarts dvsds, and closes and opens gates. For the
// sanitizers, and for the sleeping and waking that explore/ replaces.
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <random>
#include <thread>

#include "dvk/caller.h"
#include "proxy/remote_ops.h"

namespace dvs {
namespace {

using dvk::Caller;
using dvk::Deadline;
using dvk::Kind;
using dvk::RxMode;

constexpr int kNodes = 3;
constexpr int kRequests = 1500;

class Cluster {
 public:
  Cluster() {
    for (int id = 0; id < kNodes; ++id) nodes_.push_back(std::make_unique<Node>(*this, id));
  }
  ~Cluster() { stop(); }

  const dvk::Region& region(int node) const { return nodes_[static_cast<size_t>(node)]->region; }
  uint32_t slot(int endpoint) const { return region(0).slot_of(endpoint); }

  void bind(int endpoint, int home) {
    for (auto& node : nodes_) {
      dvk::Identity identity;
      identity.endpoint = endpoint;
      identity.incarnation = 1;
      identity.epoch = 1;
      identity.node = static_cast<uint32_t>(home);
      identity.kind = node->id == home ? Kind::kLocal : Kind::kRemote;
      identity.pid = node->id == home ? getpid() : 0;
      identity.tid = node->id == home ? endpoint + 1 : 0;
      ASSERT_TRUE(dvk::bind(node->region, slot(endpoint), identity));
    }
    homes_[endpoint] = home;
  }
  void start(uint64_t seed, bool disturbed) {
    pump_ = std::thread([this, seed, disturbed] { pump(seed, disturbed); });
  }
  void stop() {
    stop_ = true;
    if (pump_.joinable()) pump_.join();
  }

  template <typename Call>
  int as(int endpoint, Call call) {
    Caller caller(region(homes_.at(endpoint)), slot(endpoint),
                  {static_cast<uint32_t>(endpoint + 1)});
    return caller.status() == OK ? call(caller) : caller.status();
  }

 private:
  struct Node : RemoteOps::Env {
    Node(Cluster& c, int node)
        : cluster(c), id(node), region(std::move(*dvk::Region::anonymous(dvk::RegionSpec{}))) {
      restart();
    }
    void restart() {
      ops = std::make_unique<RemoteOps>(region, static_cast<NodeId>(id), *this);
      later.clear();
      ops->drive_all();
    }
    bool send(NodeId to, const wire::Operation& operation) override {
      if (cluster.down_[std::minmax<int>(id, to)]) return false;
      cluster.frames_[{id, to}].push_back(wire::encode_operation(operation));
      return true;
    }
    bool is_forgotten(uint32_t, uint64_t) const override { return false; }
    void drive_later(uint32_t slot) override { later.push_back(slot); }
    int read_memory(uint32_t, uint64_t, char*, size_t) override { return EDVSFAULT; }
    int write_memory(uint32_t, uint64_t, const char*, size_t) override { return EDVSFAULT; }

    Cluster& cluster;
    int id;
    dvk::Region region;
    std::unique_ptr<RemoteOps> ops;
    std::vector<uint32_t> later;
    uint32_t doorbell = 0;
  };

  void drop(int a, int b) {
    down_[{a, b}] = true;
    frames_[{a, b}].clear();
    frames_[{b, a}].clear();
  }

  void raise(int a, int b) {
    down_[{a, b}] = false;
    nodes_[static_cast<size_t>(a)]->ops->on_link_up(static_cast<NodeId>(b));
    nodes_[static_cast<size_t>(b)]->ops->on_link_up(static_cast<NodeId>(a));
  }

  void run_node(Node& node) {
    const uint32_t doorbell = dvk::event_prepare(node.region.header().doorbell);
    if (std::exchange(node.doorbell, doorbell) != doorbell) node.ops->on_doorbell();
    for (uint32_t each : std::exchange(node.later, {})) node.ops->drive(each);
    for (int from = 0; from < kNodes; ++from) {
      auto& queue = frames_[{from, node.id}];
      while (!queue.empty()) {
        const auto operation = wire::decode_operation(Bytes(queue.front()));
        queue.pop_front();
        ASSERT_TRUE(operation.ok());
        node.ops->on_operation(static_cast<NodeId>(from), *operation);
      }
    }
  }

  // A migration that is rolled back. Sometimes before the process has settled.
  void close_and_open(std::mt19937_64& rng) {
    auto chosen = homes_.begin();
    std::advance(chosen, static_cast<long>(rng() % homes_.size()));
    const uint32_t moving = slot(chosen->first);
    for (auto& node : nodes_) dvk::close_gate(node->region, moving);
    const int patience = static_cast<int>(rng() % 2000);
    for (int i = 0; i < patience && !dvk::settle(region(chosen->second), {moving}); ++i) {
      std::this_thread::yield();
    }
    for (auto& node : nodes_) {
      dvk::open_gate(node->region, moving);
      node->ops->on_place_changed(moving);
    }
  }

  void disturb(std::mt19937_64& rng) {
    const int a = static_cast<int>(rng() % kNodes);
    const int b = (a + 1) % kNodes;
    switch (rng() % 400) {
      case 0:
        drop(std::min(a, b), std::max(a, b));
        break;
      case 1:
        for (int other = 0; other < kNodes; ++other) {
          if (other != a) drop(std::min(a, other), std::max(a, other));
        }
        nodes_[static_cast<size_t>(a)]->restart();
        break;
      case 2:
      case 3:
        close_and_open(rng);
        break;
      default:
        break;
    }
    for (auto& [link, is_down] : down_) {
      if (is_down && rng() % 50 == 0) raise(link.first, link.second);
    }
  }

  void pump(uint64_t seed, bool disturbed) {
    std::mt19937_64 rng(seed);
    while (!stop_) {
      for (auto& node : nodes_) run_node(*node);
      if (disturbed) disturb(rng);
      std::this_thread::yield();
    }
  }

  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<int, int> homes_;  // written before any thread starts
  std::map<std::pair<int, int>, std::deque<std::string>> frames_;
  std::map<std::pair<int, int>, bool> down_;
  std::thread pump_;
  std::atomic<bool> stop_ = false;
};

void serve(Cluster& cluster, int endpoint, std::map<int, int>& last) {
  for (;;) {
    message m{};
    int rc = cluster.as(endpoint, [&](Caller& c) {
      return c.receive(ANY, m, Deadline::after_ms(20'000), RxMode::kRequest);
    });
    ASSERT_EQ(rc, OK);
    if (m.m_type < 0) return;
    ASSERT_EQ(m.m_type, last[m.m_source] + 1);
    last[m.m_source] = m.m_type;
    const int client = m.m_source;
    m.m1_i1 = m.m_type * 3;
    rc = cluster.as(endpoint,
                    [&](Caller& c) { return c.reply(client, m, Deadline::after_ms(20'000)); });
    ASSERT_EQ(rc, OK);
  }
}

void ask(Cluster& cluster, int endpoint, const std::vector<int>& servers) {
  std::map<int, int> next;
  for (int i = 0; i < kRequests; ++i) {
    const int server = servers[static_cast<size_t>(i) % servers.size()];
    message m{};
    m.m_type = ++next[server];
    const int rc = cluster.as(
        endpoint, [&](Caller& c) { return c.sendrec(server, m, Deadline::after_ms(20'000)); });
    ASSERT_EQ(rc, OK);
    ASSERT_EQ(m.m1_i1, next[server] * 3);
    ASSERT_EQ(m.m_source, server);
  }
}

class RemoteOpsThreadTest : public testing::TestWithParam<bool> {};

TEST_P(RemoteOpsThreadTest, EveryRequestIsAnsweredOnceAndInOrder) {
  const std::vector<int> servers = {1, 2};
  const std::vector<int> clients = {70, 71, 72, 73};
  constexpr int kEnd = 80;
  Cluster cluster;
  for (int server : servers) cluster.bind(server, server % kNodes);
  for (int client : clients) cluster.bind(client, client % kNodes);
  cluster.bind(kEnd, 0);
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  cluster.start(seed, GetParam());
  std::map<int, std::map<int, int>> last;
  std::vector<std::thread> serving;
  std::vector<std::thread> asking;
  for (int server : servers) {
    serving.emplace_back([&, server, &seen = last[server]] { serve(cluster, server, seen); });
  }
  for (int client : clients) {
    asking.emplace_back([&, client] { ask(cluster, client, servers); });
  }
  for (auto& thread : asking) thread.join();
  for (int server : servers) {
    message m{};
    m.m_type = -1;
    EXPECT_EQ(
        cluster.as(kEnd, [&](Caller& c) { return c.send(server, m, Deadline::after_ms(20'000)); }),
        OK);
  }
  for (auto& thread : serving) thread.join();
  for (int server : servers) {
    for (int client : clients) {
      EXPECT_EQ(last[server][client], kRequests / static_cast<int>(servers.size()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, RemoteOpsThreadTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Disturbed" : "Quiet"; });

}  // namespace
}  // namespace dvs
