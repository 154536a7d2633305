// A node of the explored world, and words for traces.
#pragma once

#include "base/unique_fd.h"
#include "proxy/explore/world.h"

namespace dvs::explore {

// Without a stop for the scheduler.
inline uint32_t raw(const std::atomic<uint32_t>& word) { return word.load(); }

std::string describe(const wire::Operation& operation);
std::string describe(const News& news);
std::string describe(const dvk::Descriptor& d, uint32_t slot);

struct World::Node : RemoteOps::Env {
  Node(World& w, NodeId node);
  ~Node() override;

  dvk::Region open_view() const;
  bool doorbell_rings() const { return (raw(region.header().doorbell) & ~1u) != doorbell_seen; }
  int64_t next_drive() const;
  uint32_t take_drive();  // REQUIRES: one is due
  int64_t next_arrival() const;
  void arrives_later(Migration* migration);

  bool send(NodeId to, const wire::Operation& operation) override;
  bool is_forgotten(uint32_t, uint64_t) const override { return false; }
  void drive_later(uint32_t slot) override;
  int read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) override;
  int write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) override;
  bool check_memory(uint32_t slot);

  World& world;
  NodeId id;
  std::string path;  // of the region, as long as there is the node
  UniqueFd fd;
  dvk::Region region;
  std::unique_ptr<RemoteOps> ops;
  std::unique_ptr<Fiber> fiber;
  bool idle = false;
  bool dies = false;
  bool lost = false;
  size_t heard = 0;                                  // of the directory's news
  std::vector<std::pair<int64_t, uint32_t>> drives;  // when, slot
  std::set<NodeId> links_risen;
  // Committed, and not taken in yet: when that is tried again, in order.
  std::vector<std::pair<int64_t, Migration*>> arrivals;
  std::deque<Process*> deaths;
  uint32_t doorbell_seen = 0;
  uint64_t accesses = 0;
};

}  // namespace dvs::explore
