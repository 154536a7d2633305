// Memory that arrives after the process runs: the pager at the target, who keeps it meanwhile (the
// source, or a file server), and how both learn that nothing is owed any more.
#include <fcntl.h>
#include <sys/socket.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr int64_t kTellEveryNs = 100'000'000;
constexpr int kPagerDirectory = 3;  // its descriptor, see apps/dvs-pager

bool is_want(MemoryPart part) {
  return part == MemoryPart::kWant || part == MemoryPart::kWantLater;
}

}  // namespace

bool DcPart::send_image(const std::string& to, std::string_view body) {
  const auto node = node_id(to);
  return node.has_value() && context_.links->send(*node, wire::FrameType::kImage, body);
}

bool DcPart::is_congested(const std::string& to) {
  const auto node = node_id(to);
  return node.has_value() && context_.links->congested(*node);
}

void DcPart::on_memory(NodeId from, const std::string& migration, std::string_view body) {
  const auto* entry = context_.cluster.migration(migration);
  std::string storage;
  auto frame = decode_memory(body);
  if (frame.ok()) frame = unpacked(*frame, storage);
  if (!frame.ok() || entry == nullptr || entry->record.dc != record_.name) {
    return log::warn("node {}: memory of migration {} that nobody expects", from, migration);
  }
  const MigrationRecord& record = entry->record;
  if (is_want(frame->part)) {
    if (node_id(record.target) == from) serve(record, *frame);
  } else if (auto keeper = keepers_.find(migration); keeper != keepers_.end()) {
    if (node_id(record.source) == from) keep(keeper->second, *frame);
    context_.faults.die_at(Fault::kKeeperDiesKeeping);
  } else if (auto pager = pagers_.find(migration); pager != pagers_.end()) {
    if (node_id(memory_comes_from(record)) == from) pager->second.fetch->on_frame(*frame);
  }
}

// ---- whoever keeps the memory ----

// Made when first needed: also by a dvsd that was restarted since the process was frozen, or the
// memory was sealed.
MemoryServer* DcPart::server_of(const MigrationRecord& record) {
  if (auto found = servers_.find(record.id); found != servers_.end()) return found->second.get();
  const bool wanted = record.state == MigrationState::kActive || record.memory == OwedMemory::kOwed;
  if (!wanted || memory_comes_from(record) != context_.config.name) return nullptr;
  auto keeper = record.file_server.empty()
                    ? keep_in_processes(processes_of(record.task))
                    : keep_in_store(site(record.id).dir + "/" + mover::kStoreName);
  MemoryServer::Link link;
  link.send = [this, to = record.target](std::string_view body) { return send_image(to, body); };
  link.congested = [this, to = record.target] { return is_congested(to); };
  auto& server = servers_[record.id];
  server = std::make_unique<MemoryServer>(context_.executor, record.id, std::move(keeper),
                                          record.bandwidth, packer_of(record), std::move(link));
  return server.get();
}

void DcPart::serve(const MigrationRecord& record, const MemoryFrame& want) {
  if (MemoryServer* server = server_of(record)) return server->on_want(want);
  const MemoryFrame gone{MemoryPart::kGone, want.pid, want.pages,
                         "node " + context_.config.name + " does not keep it any more"};
  send_image(record.target, encode_memory(record.id, gone));
}

// This node is a file server of that migration.
void DcPart::keep_memory(const MigrationRecord& record) {
  auto store = mover::Store::open(site(record.id).dir + "/" + mover::kStoreName);
  if (!store.ok()) return log::error("migration {}: {}", record.id, store.error().message());
  keepers_.try_emplace(record.id, Keeper{std::move(*store), {}});
}

bool DcPart::keeps_memory(const std::string& migration) { return keepers_.count(migration) != 0; }

void DcPart::keep(Keeper& keeper, const MemoryFrame& frame) {
  if (!keeper.failed.ok()) return;
  if (frame.part == MemoryPart::kPages) {
    keeper.failed = keeper.store.write(frame.pid, frame.pages.start, frame.bytes);
  } else if (frame.part == MemoryPart::kDrop) {
    keeper.failed = keeper.store.drop(frame.pid, frame.pages);
  }
}

// Everything has come: it may be asked for now, also of the next dvsd.
Status DcPart::seal_kept(const std::string& migration) {
  const auto keeper = keepers_.find(migration);
  if (keeper == keepers_.end()) return Error(Code::kNotFound, "it keeps nothing of that migration");
  if (!keeper->second.failed.ok()) return keeper->second.failed;
  DVS_TRY(keeper->second.store.seal());
  context_.faults.die_at(Fault::kKeeperDiesSealed);
  keepers_.erase(keeper);
  return {};
}

void DcPart::end_keeping(const std::string& migration) {
  keepers_.erase(migration);
  servers_.erase(migration);
  log::if_failed(remove_tree(site(migration).dir));
}

// ---- target ----

void DcPart::expect_memory(const MigrationRecord& record) {
  arrivals_.erase(record.id);
  const bool ready = record.algorithm.empty() || pagers_.count(record.id) != 0;
  if (!ready) start_pager({record.id, record.task, true, record.patience_ms});
  if (auto pager = pagers_.find(record.id); pager != pagers_.end()) pager->second.record = record;
}

// Before criu wants it. What is in the store it fills in without dvsd.
void DcPart::start_pager(const Arrival& arrival) {
  const std::string directory = site(arrival.migration).dir;
  int ends[2];
  if (Status made = make_dirs(directory); !made.ok()) return log::if_failed(made);
  const UniqueFd images(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  ChildOptions options;
  options.argv = {context_.config.pager, std::to_string(arrival.patience_ms),
                  context_.cgroups.kill_file(cgroup_of(arrival.task))};
  options.stdin_fd = theirs.get();
  options.capture_output = true;
  options.pass_fds = {{images.get(), kPagerDirectory}};
  auto started = run_child(context_.executor, std::move(options),
                           [id = arrival.migration](const ChildResult& result) {
                             if (!result.ok())
                               log::warn("migration {}: pager: {}", id, result.describe());
                           });
  if (!started.ok()) return log::error("cannot start the pager: {}", started.error().message());
  use_pager(arrival.migration, std::move(ours));
}

void DcPart::use_pager(const std::string& migration, UniqueFd socket) {
  Pager& pager = pagers_[migration];
  pager.fetch = std::make_shared<MemoryFetch>(
      context_.executor, migration, site(migration).dir, std::move(socket),
      [this, migration](std::string_view body) {
        return send_image(memory_comes_from(pagers_.at(migration).record), body);
      });
  pager.fetch->start();
}

void DcPart::await_memory(const MigrationRecord& record, Done<Json> done) {
  if (record.algorithm.empty()) return context_.later([done] { done(Json::object()); });
  if (pagers_.count(record.id) == 0) {
    auto socket = MemoryFetch::connect(site(record.id).dir);  // of an earlier dvsd
    if (socket.ok()) {
      pagers_[record.id].record = record;
      use_pager(record.id, std::move(*socket));
    }
  }
  auto ended = [self = shared_from_this(), record, done] { self->memory_ended(record, done); };
  const auto pager = pagers_.find(record.id);
  if (pager == pagers_.end()) return context_.later(ended);
  pager->second.record = record;
  tell_of_fetching(record.id);
  pager->second.fetch->await_end([this, ended] { context_.later(ended); });
}

void DcPart::tell_of_fetching(const std::string& migration) {
  const auto pager = pagers_.find(migration);
  if (pager == pagers_.end() || pager->second.fetch->ended()) return;
  const MigrationRecord& record = pager->second.record;
  if (record.owed_bytes > 0) {
    participant_.reporter().progress(record, pager->second.fetch->fetched_bytes(),
                                     record.owed_bytes);
  }
  run_after(context_.executor, std::chrono::nanoseconds(kTellEveryNs),
            [weak = weak_from_this(), migration] {
              if (auto self = weak.lock()) self->tell_of_fetching(migration);
            });
}

// The pager has ended, well or not.
void DcPart::memory_ended(const MigrationRecord& record, const Done<Json>& done) {
  auto outcome = MemoryFetch::outcome(site(record.id).dir);
  const bool told = outcome.ok() || outcome.error().code() != Code::kNotFound;
  pagers_.erase(record.id);
  const auto lost = [](const Error& error) {
    return Error(Code::kUnavailable,
                 "the process was ended, since its memory could not be had: " + error.message());
  };
  if (record.memory != OwedMemory::kOwed) {
    // A pager of an earlier dvsd may have ended, and told, long ago.
    if (outcome.ok() || !told) return done(outcome.ok() ? *outcome : Json::object());
    return done(lost(outcome.error()));
  }
  if (!outcome.ok()) {
    // The guardian has done that, unless it was killed as well.
    context_.cgroups.kill(context_.executor, cgroup_of(record.task), [](Result<bool>) {});
    return done(lost(outcome.error()));
  }
  done(*outcome);
}

// It ends when nobody wants it, or with the processes.
void DcPart::end_pager(const std::string& migration) { pagers_.erase(migration); }

}  // namespace dvs
