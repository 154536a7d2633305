#include "proxy/explore/node.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/check.h"

namespace dvs::explore {
namespace {

constexpr int64_t kLater = 3'000'000;  // ns

}  // namespace

World::Node::Node(World& w, NodeId node) : world(w), id(node) {
  path = "/dev/shm/dvs-explore-" + std::to_string(getpid()) + "-" + std::to_string(node);
  dvk::RegionSpec spec;
  spec.slots = 128;
  spec.local_node = node;
  auto created = dvk::Region::create(path, spec);
  DVS_CHECK(created.ok(), "{}", created.error().message());
  region = std::move(*created);
  for (auto& entry : region.header().nodes) entry.state.store(dvk::kNodeUp);
  fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  DVS_CHECK(fd.valid());
}

World::Node::~Node() { ::unlink(path.c_str()); }

dvk::Region World::Node::open_view() const {
  auto opened = dvk::Region::open(path);
  DVS_CHECK(opened.ok());
  return std::move(*opened);
}

bool World::Node::send(NodeId to, const wire::Operation& operation) {
  if (to == id) {
    world.fail("node " + std::to_string(id) + " sends to itself: " + describe(operation));
    return false;
  }
  if (!world.link_is_up(id, to)) return false;
  world.trace("node " + std::to_string(id) + " -> " + std::to_string(to) + ": " +
              describe(operation));
  ++world.frames_;
  if (world.on_frame) world.on_frame(world.frames_);
  if (!world.link_is_up(id, to)) return true;  // it broke with this frame in it
  world.frames_in_flight_[{id, to}].push_back(wire::encode_operation(operation));
  return true;
}

void World::Node::drive_later(uint32_t slot) { drives.emplace_back(world.now_ns() + kLater, slot); }

int64_t World::Node::next_arrival() const {
  return arrivals.empty() ? INT64_MAX : arrivals.front().first;
}

void World::Node::arrives_later(Migration* migration) {
  std::erase_if(arrivals, [&](const auto& arrival) { return arrival.second == migration; });
  arrivals.emplace_back(world.now_ns() + kLater, migration);
}

int64_t World::Node::next_drive() const {
  return drives.empty() ? INT64_MAX : drives.front().first;
}

uint32_t World::Node::take_drive() {
  const uint32_t slot = drives.front().second;
  drives.erase(drives.begin());
  return slot;
}

// Memory may only be touched where its process is, and not after it was carried away.
bool World::Node::check_memory(uint32_t slot) {
  const Process* process = world.process_of(slot);
  if (process == nullptr || !process->alive) return false;
  if (process->node != id) world.fail("memory of another node's process was touched");
  const bool held = process->migration != nullptr && process->migration->target == id;
  if (process->frozen && !held) world.fail("memory of a frozen process was touched");
  return true;
}

int World::Node::read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) {
  if (!check_memory(slot)) return EDVSDSTDIED;
  std::memcpy(to, reinterpret_cast<const char*>(address), bytes);
  return OK;
}

int World::Node::write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) {
  if (!check_memory(slot)) return EDVSDSTDIED;
  std::memcpy(reinterpret_cast<char*>(address), from, bytes);
  return OK;
}

const dvk::Region& World::region(NodeId node) const { return nodes_[node]->region; }

// ---- words

std::string describe(const wire::Operation& operation) {
  static const char* const kNames[] = {"",          "request",    "ack",     "answer",
                                       "moved",     "retry",      "cancel",  "copy-read",
                                       "copy-data", "copy-write", "copy-ack"};
  return std::string(kNames[static_cast<int>(operation.type)]) + " of " +
         std::to_string(operation.slot) + " #" + std::to_string(operation.number) + " peer " +
         std::to_string(operation.peer) + " epoch " + std::to_string(operation.epoch) + " rc " +
         std::to_string(operation.rc) + " offset " + std::to_string(operation.offset);
}

std::string describe(const News& news) {
  static const char* const kNames[] = {"bind",   "unbind",   "start",
                                       "commit", "rollback", "loss of node"};
  std::string text = kNames[static_cast<int>(news.what)];
  if (news.migration == nullptr) return text + " of slot " + std::to_string(news.slot);
  return text + " of process " + std::to_string(news.migration->process->id) + ": " +
         std::to_string(news.migration->source) + " to " + std::to_string(news.migration->target) +
         ", epoch " + std::to_string(news.migration->epoch);
}

std::string describe(const dvk::Descriptor& d, uint32_t slot) {
  static const char* const kKinds[] = {"free", "local", "remote", "backup", "replica", "ended"};
  static const char* const kTx[] = {"idle", "posted", "taken", "done", "cancel"};
  static const char* const kRx[] = {"idle", "waiting", "parked", "filling", "full"};
  const dvk::TxWord tx = dvk::load_tx(d);
  const dvk::RxWord rx = dvk::load_rx(d);
  return "[" + std::to_string(slot) + " " + kKinds[d.kind.load()] + "@" +
         std::to_string(d.node.load()) + " epoch " + std::to_string(d.epoch.load()) + " flags " +
         std::to_string(d.flags.load()) + " inside " + std::to_string(d.inside.load()) + " tx " +
         kTx[static_cast<int>(tx.phase)] + " #" + std::to_string(tx.number) + " kind " +
         std::to_string(d.tx_kind.load()) + " peer " + std::to_string(d.tx_peer.load()) + " rc " +
         std::to_string(tx.rc) + " rx " + kRx[static_cast<int>(rx.phase)] + " mode " +
         std::to_string(static_cast<int>(rx.mode)) + " filter " + std::to_string(rx.filter) + "]";
}

std::string World::describe_state() const {
  std::string text;
  for (const auto& process : processes_) {
    text += "\nprocess " + std::to_string(process->id) + " at " + std::to_string(process->node) +
            (process->alive ? "" : " dead") + (process->frozen ? " frozen" : "");
    for (const auto& thread : process->threads) {
      const bool over = thread.fiber == nullptr || thread.fiber->done();
      text += over ? " over" : thread.sleeps_on != nullptr ? " asleep" : " running";
      for (const auto& node : nodes_) {
        text += "\n  node " + std::to_string(node->id) + " " +
                describe(node->region.at(thread.slot), thread.slot);
      }
    }
  }
  return text;
}

std::string World::stuck_outside_receive() const {
  for (const auto& process : processes_) {
    for (const auto& thread : process->threads) {
      if (!process->alive || thread.fiber == nullptr || thread.fiber->done()) continue;
      const dvk::RxWord rx = dvk::load_rx(process->view.at(thread.slot));
      const bool receives = rx.phase == dvk::RxPhase::kWaiting && rx.mode != dvk::RxMode::kAnswer;
      if (!receives) return "process " + std::to_string(process->id) + " waits for ever";
    }
  }
  return {};
}

bool World::all_over() const {
  for (const auto& process : processes_) {
    for (const auto& thread : process->threads) {
      if (process->alive && thread.fiber != nullptr && !thread.fiber->done()) return false;
    }
  }
  return true;
}

}  // namespace dvs::explore
