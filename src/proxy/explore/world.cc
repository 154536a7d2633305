#include "proxy/explore/world.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "proxy/explore/node.h"

namespace dvs::explore {
namespace {

World* the_world = nullptr;
constexpr uint64_t kStepLimit = 3'000'000;
constexpr uint32_t kTidBase = 1000;

std::pair<NodeId, NodeId> pair_of(NodeId a, NodeId b) { return {std::min(a, b), std::max(a, b)}; }

}  // namespace

std::vector<uint32_t> Process::slots() const {
  std::vector<uint32_t> result;
  for (const Thread& thread : threads) result.push_back(thread.slot);
  return result;
}

World& World::current() { return *the_world; }

World::World(const Options& options) : options_(options), rng_(options.seed) {
  DVS_CHECK(the_world == nullptr);
  the_world = this;
  for (uint32_t id = 0; id < options.nodes; ++id) {
    nodes_.push_back(std::make_unique<Node>(*this, static_cast<NodeId>(id)));
    nodes_.back()->region.header().copy_chunk = options.copy_chunk;
    start_dvsd(*nodes_.back());
  }
}

World::~World() { the_world = nullptr; }

void World::fail(const std::string& why) {
  trace("FAILED: " + why);
  if (failure_.empty()) failure_ = why;
}

void World::trace(const std::string& what) {
  static const bool wanted = std::getenv("DVS_EXPLORE_TRACE") != nullptr;
  if (wanted) std::fprintf(stderr, "%10.6f %s\n", static_cast<double>(now_ns_) / 1e9, what.c_str());
}

// ---- processes ----------------------------------------------------------------------------------

Process& World::add_process(NodeId node, const std::vector<int>& endpoints) {
  auto process = std::make_unique<Process>();
  process->id = static_cast<int>(processes_.size());
  process->node = node;
  process->view = nodes_[node]->open_view();
  for (int endpoint : endpoints) {
    Process::Thread thread;
    thread.slot = slot(endpoint);
    process->threads.push_back(std::move(thread));
    dvk::Identity identity;
    identity.endpoint = endpoint;
    identity.incarnation = ++incarnations_;
    if (process->incarnation == 0) process->incarnation = identity.incarnation;
    identity.epoch = 1;
    identity.node = node;
    identity.pid = getpid();
    identity.tid = static_cast<int>(kTidBase + slot(endpoint));
    identity.name = "p" + std::to_string(process->id);
    log_.push_back({News::What::kBind, slot(endpoint), identity, nullptr});
  }
  if (!started_) {
    for (auto& each : nodes_) {
      while (!each->lost && each->heard < log_.size()) apply(*each, log_[each->heard]);
    }
  }
  processes_.push_back(std::move(process));
  return *processes_.back();
}

void World::run_in(Process& process, int endpoint, std::function<void()> body) {
  for (Process::Thread& thread : process.threads) {
    if (thread.slot != slot(endpoint)) continue;
    thread.fiber = std::make_unique<Fiber>(std::move(body));
    return;
  }
}

int World::call(Process& process, int endpoint, const std::function<int(dvk::Caller&)>& body) {
  dvk::Caller caller(process.view, slot(endpoint), {kTidBase + slot(endpoint)});
  return caller.status() == OK ? body(caller) : caller.status();
}

Process* World::process_of(uint32_t slot) const {
  for (auto it = processes_.rbegin(); it != processes_.rend(); ++it) {
    for (const auto& thread : (*it)->threads) {
      if (thread.slot == slot) return it->get();
    }
  }
  return nullptr;
}

void World::kill(Process& process) {
  trace("kill process " + std::to_string(process.id));
  somebody_died_ = true;
  process.alive = false;
  process.killed = false;
  for (auto& thread : process.threads) thread.fiber.reset();
  nodes_[process.node]->deaths.push_back(&process);
}

// What dvsd does when it sees a process's end; the directory's news follow.
void World::bury(Process& process) {
  for (uint32_t slot : process.slots()) dvk::bury(nodes_[process.node]->region, slot);
  for (uint32_t slot : process.slots()) {
    unbind(slot);
    if (on_unbound) on_unbound(slot);
  }
}

void World::unbind(uint32_t slot) {
  News news{News::What::kUnbind, slot, {}, nullptr};
  for (const News& old : log_) {
    if (old.what == News::What::kBind && old.slot == slot) news.identity = old.identity;
  }
  log_.push_back(news);
}

// ---- links

bool World::link_is_up(NodeId a, NodeId b) const {
  return !nodes_[a]->lost && !nodes_[b]->lost && links_down_.count(pair_of(a, b)) == 0;
}

void World::drop_link(NodeId a, NodeId b) {
  trace("link " + std::to_string(a) + "-" + std::to_string(b) + " breaks");
  disturbed_ = true;
  links_down_.insert(pair_of(a, b));
  frames_in_flight_[{a, b}].clear();
  frames_in_flight_[{b, a}].clear();
  nodes_[a]->links_risen.erase(b);
  nodes_[b]->links_risen.erase(a);
}

void World::raise_link(NodeId a, NodeId b) {
  if (links_down_.erase(pair_of(a, b)) == 0 || nodes_[a]->lost || nodes_[b]->lost) return;
  trace("link " + std::to_string(a) + "-" + std::to_string(b) + " is back");
  nodes_[a]->links_risen.insert(b);
  nodes_[b]->links_risen.insert(a);
}

void World::lose_node(NodeId node) {
  trace("node " + std::to_string(node) + " is lost");
  for (uint32_t other = 0; other < nodes_.size(); ++other) {
    if (other != node) drop_link(node, static_cast<NodeId>(other));
  }
  nodes_[node]->lost = true;
  for (auto& process : processes_) {
    if (process->node != node || !process->alive) continue;
    process->alive = false;
    somebody_died_ = true;
    for (uint32_t slot : process->slots()) unbind(slot);
  }
  log_.push_back({News::What::kNodeLost, node, {}, nullptr});
}

// ---- dvsd

void World::start_dvsd(Node& node) {
  node.ops = std::make_unique<RemoteOps>(node.region, node.id, node);
  node.drives.clear();
  node.idle = false;
  node.dies = false;
  node.fiber = std::make_unique<Fiber>([this, &node] { dvsd_main(node); });
}

void World::restart_dvsd(NodeId id) {
  trace("dvsd " + std::to_string(id) + " restarts");
  for (uint32_t other = 0; other < nodes_.size(); ++other) {
    if (other != id) drop_link(id, static_cast<NodeId>(other));
  }
  disturbed_ = true;
  ++restarts_;
  start_dvsd(*nodes_[id]);
}

void World::dvsd_main(Node& node) {
  node.ops->drive_all();
  for (;;) {
    Body event;
    if (next_event(node, event)) {
      event();
    } else {
      node.idle = true;
      Fiber::yield();
      node.idle = false;
    }
  }
}

bool World::has_event(const Node& node) const {
  if (node.doorbell_rings() || node.heard < log_.size() || !node.deaths.empty() ||
      !node.links_risen.empty() || node.next_arrival() <= now_ns_ || node.next_drive() <= now_ns_) {
    return true;
  }
  for (const auto& migration : migrations_) {
    if (source_can_step(node, *migration)) return true;
  }
  for (const auto& [link, frames] : frames_in_flight_) {
    if (link.second == node.id && !frames.empty()) return true;
  }
  return false;
}

// One of the things this dvsd could do now, by chance.
bool World::next_event(Node& node, Body& event) {
  std::vector<Body> events;
  if (node.doorbell_rings()) {
    events.push_back([&node] {
      node.doorbell_seen = dvk::event_prepare(node.region.header().doorbell);
      node.ops->on_doorbell();
    });
  }
  if (node.heard < log_.size()) events.push_back([this, &node] { apply(node, log_[node.heard]); });
  if (node.next_arrival() <= now_ns_) {
    events.push_back([this, &node] { try_arrival(node, *node.arrivals.front().second); });
  }
  if (node.next_drive() <= now_ns_)
    events.push_back([&node] { node.ops->drive(node.take_drive()); });
  for (NodeId peer : node.links_risen) {
    events.push_back([&node, peer] {
      node.links_risen.erase(peer);
      node.ops->on_link_up(peer);
    });
  }
  if (!node.deaths.empty()) {
    events.push_back([this, &node] {
      bury(*node.deaths.front());
      node.deaths.pop_front();
    });
  }
  for (auto& migration : migrations_) {
    if (!source_can_step(node, *migration)) continue;
    events.push_back([this, &node, m = migration.get()] { step_source(node, *m); });
  }
  for (auto& [link, frames] : frames_in_flight_) {
    if (link.second != node.id || frames.empty() || node.links_risen.count(link.first) > 0)
      continue;
    events.push_back([this, &node, from = link.first, &queue = frames] {
      const std::string frame = queue.front();
      queue.pop_front();
      deliver(node, from, frame);
    });
  }
  if (events.empty()) return false;
  event = events[random(events.size())];
  return true;
}

void World::deliver(Node& node, NodeId from, const std::string& frame) {
  auto operation = wire::decode_operation(Bytes(frame));
  DVS_CHECK(operation.ok());
  trace("node " + std::to_string(node.id) + " <- " + std::to_string(from) + ": " +
        describe(*operation));
  node.ops->on_operation(from, *operation);
}

void World::apply(Node& node, const News& news) {
  trace("node " + std::to_string(node.id) + " hears " + describe(news));
  const bool about_me = news.identity.node == node.id;
  dvk::Identity identity = news.identity;
  switch (news.what) {
    case News::What::kBind:
      identity.kind = about_me ? dvk::Kind::kLocal : dvk::Kind::kRemote;
      if (!about_me) identity.pid = identity.tid = 0;
      if (!dvk::bind(node.region, news.slot, identity)) return;  // heard again
      break;
    case News::What::kUnbind:
      if (!dvk::unbind(node.region, news.slot)) return;
      break;
    case News::What::kStart:
      for (uint32_t slot : news.migration->process->slots()) dvk::close_gate(node.region, slot);
      if (news.migration->source == node.id) news.migration->gate_closed = true;
      break;
    case News::What::kCommit:
      if (apply_commit(node, *news.migration)) break;
      if (news.migration->target != node.id) return;
      node.arrives_later(news.migration);  // and what else there is to hear goes on
      ++node.heard;
      return;
    case News::What::kRollback:
      if (news.migration->source == node.id) news.migration->process->frozen = false;
      for (uint32_t slot : news.migration->process->slots()) dvk::open_gate(node.region, slot);
      break;
    case News::What::kNodeLost:
      node.region.header().nodes[news.slot].state.store(dvk::kNodeDown);
      node.ops->on_nodes_changed();
      break;
  }
  if (news.what == News::What::kNodeLost) {
    // Concerns no endpoint.
  } else if (news.migration == nullptr) {
    node.ops->on_place_changed(news.slot);
  } else if (news.what != News::What::kStart) {
    carried_out(node, *news.migration);
  }
  ++node.heard;
}

void World::try_arrival(Node& node, Migration& migration) {
  if (!apply_commit(node, migration)) return node.arrives_later(&migration);
  std::erase_if(node.arrivals, [&](const auto& each) { return each.second == &migration; });
  carried_out(node, migration);
}

void World::carried_out(const Node& node, Migration& migration) {
  for (uint32_t slot : migration.process->slots()) node.ops->on_place_changed(slot);
  migration.done.insert(node.id);
  if (migration.done.count(migration.source) + migration.done.count(migration.target) == 2) {
    if (migration.process->migration == &migration) migration.process->migration = nullptr;
  }
}

// ---- the scheduler ------------------------------------------------------------------------------

void World::access() {
  if (Fiber::current() == nullptr) return;
  bool dies = false;
  if (running_dvsd_ != nullptr) {
    dies = dvsd_dies_at && dvsd_dies_at(running_dvsd_->id, running_dvsd_->accesses++);
    running_dvsd_->dies |= dies;
  } else if (running_process_ != nullptr) {
    dies = process_dies_at && process_dies_at(*running_process_, running_process_->accesses++);
    running_process_->killed |= dies;
  }
  if (dies || (budget_ > 0 && --budget_ == 0)) Fiber::yield();
}

int World::sleep(dvk::Atomic<uint32_t>& word, uint32_t expected, dvk::Deadline deadline) {
  Process::Thread& thread = *running_thread_;
  thread.sleeps_on = &word;
  thread.expected = expected;
  thread.deadline = deadline;
  Fiber::yield();
  thread.sleeps_on = nullptr;
  if (raw(word) != expected) return 0;
  return deadline.when_ns() > now_ns_ ? 0 : ETIMEDOUT;
}

bool World::can_run(const Process& process, const Process::Thread& thread) const {
  if (!process.alive || process.frozen || thread.fiber == nullptr || thread.fiber->done()) {
    return false;
  }
  const dvk::Descriptor& d = process.view.at(thread.slot);
  if (thread.sleeps_on == nullptr && d.incarnation.load() < process.incarnation) return false;
  return thread.sleeps_on == nullptr || raw(*thread.sleeps_on) != thread.expected ||
         thread.deadline.when_ns() <= now_ns_;
}

void World::resume(Fiber& fiber) {
  // Mostly short turns, now and then a long one.
  budget_ = options_.preempt == 0 ? 0 : 1 + random(chance(700) ? 16 : options_.preempt);
  fiber.resume();
}

void World::run_thread(Process& process, Process::Thread& thread) {
  running_process_ = &process;
  running_thread_ = &thread;
  resume(*thread.fiber);
  running_process_ = nullptr;
  running_thread_ = nullptr;
  if (process.killed) kill(process);
}

void World::run_dvsd(Node& node) {
  running_dvsd_ = &node;
  resume(*node.fiber);
  running_dvsd_ = nullptr;
  if (node.dies) restart_dvsd(node.id);
}

bool World::step() {
  started_ = true;
  now_ns_ += static_cast<int64_t>(random(2000));
  if (options_.adversity > 0 && chance(options_.adversity)) act_as_adversary();
  struct Choice {
    Process* process;
    Process::Thread* thread;
    Node* node;
  };
  std::vector<Choice> choices;
  for (auto& process : processes_) {
    for (auto& thread : process->threads) {
      if (can_run(*process, thread)) choices.push_back({process.get(), &thread, nullptr});
    }
  }
  for (auto& node : nodes_) {
    if (!node->lost && (!node->idle || has_event(*node))) {
      choices.push_back({nullptr, nullptr, node.get()});
    }
  }
  if (choices.empty()) return mend() || advance_time();
  const Choice& choice = choices[random(choices.size())];
  if (choice.node != nullptr) {
    run_dvsd(*choice.node);
  } else {
    run_thread(*choice.process, *choice.thread);
  }
  return true;
}

// Nobody can go on: whatever the adversary left half done is completed.
bool World::mend() {
  bool mended = false;
  const auto down = links_down_;
  for (const auto& [a, b] : down) {
    if (nodes_[a]->lost || nodes_[b]->lost) continue;
    raise_link(a, b);
    mended = true;
  }
  for (size_t i = 0; i < migrations_.size(); ++i) {
    if (migrations_[i]->decided) continue;
    decide(*migrations_[i], !migrations_[i]->capsule.empty());
    mended = true;
  }
  return mended;
}

bool World::advance_time() {
  int64_t next = INT64_MAX;
  for (const auto& node : nodes_) {
    if (!node->lost) next = std::min({next, node->next_drive(), node->next_arrival()});
  }
  for (const auto& process : processes_) {
    for (const auto& thread : process->threads) {
      const bool waits = process->alive && !process->frozen && thread.sleeps_on != nullptr;
      if (waits) next = std::min(next, thread.deadline.when_ns());
    }
  }
  if (next == INT64_MAX) return false;
  now_ns_ = std::max(now_ns_, next);
  return true;
}

bool World::run() {
  for (uint64_t steps = 0; failure_.empty(); ++steps) {
    if (!step()) return failure_.empty();
    if (steps > kStepLimit) fail("no end is in sight: " + describe_state());
  }
  return false;
}

bool World::run_until(const std::function<bool()>& condition) {
  for (uint64_t steps = 0; failure_.empty() && steps < kStepLimit; ++steps) {
    if (condition()) return true;
    if (!step()) return condition();
  }
  return false;
}

}  // namespace dvs::explore

// ---- what the real libdvk does with the kernel

namespace dvs::dvk {

void explore_point(const void*, size_t, bool) { explore::World::current().access(); }
void explore_saw(const void*, size_t, uint64_t) {}

timespec wall_time() { return {}; }

int64_t Deadline::now_ns() { return explore::World::current().now_ns(); }

bool event_await(Atomic<uint32_t>&, uint32_t, Near) { return false; }

int futex_wait(Atomic<uint32_t>& word, uint32_t expected, Deadline deadline) {
  return explore::World::current().sleep(word, expected, deadline);
}

// The word has been changed before: that wakes, here.
void futex_wake_all(Atomic<uint32_t>&) {}

}  // namespace dvs::dvk
