#include "migrate/memory_server.h"

#include <unistd.h>

#include <algorithm>

#include "mover/page_runs.h"
#include "mover/reader.h"
#include "mover/store.h"

namespace dvs {
namespace {

// One that asks for more at a time is wrong, or means us harm.
constexpr size_t kMostWants = 100'000;
constexpr uint64_t kLargestWant = 64 << 20;  // bytes
constexpr int kFramesAtOnce = 2;             // then others of the event loop have their turn

class InProcesses final : public MemoryKeeper {
 public:
  explicit InProcesses(const std::vector<mover::ProcessId>& processes) {
    for (const mover::ProcessId& each : processes) {
      auto reader = mover::Reader::open(each.host_pid);
      if (reader.ok()) readers_.emplace(each.dc_pid, std::move(*reader));
    }
  }
  Status read(pid_t pid, mover::PageRange pages, char* out) override {
    const auto found = readers_.find(pid);
    if (found == readers_.end()) return Error(Code::kNotFound, "the frozen process has gone");
    DVS_ASSIGN(const mover::PageRanges vanished, found->second.read({pages}, out));
    return vanished.empty() ? Status() : Error(Code::kNotFound, "the frozen process has changed");
  }

 private:
  std::map<pid_t, mover::Reader> readers_;
};

class InStore final : public MemoryKeeper {
 public:
  explicit InStore(std::string directory) : directory_(std::move(directory)) {}
  Status read(pid_t pid, mover::PageRange pages, char* out) override {
    UniqueFd& file = files_[pid];
    if (!file.valid()) {
      DVS_ASSIGN(mover::StoredMemory stored, mover::open_stored(directory_, pid));
      file = std::move(stored.file);
    }
    const ssize_t size = ::pread(file.get(), out, pages.size(), static_cast<off_t>(pages.start));
    if (size == static_cast<ssize_t>(pages.size())) return {};
    return Error(Code::kNotFound, "the stored memory has gone");
  }

 private:
  const std::string directory_;
  std::map<pid_t, UniqueFd> files_;
};

}  // namespace

std::unique_ptr<MemoryKeeper> keep_in_processes(const std::vector<mover::ProcessId>& processes) {
  return std::make_unique<InProcesses>(processes);
}

std::unique_ptr<MemoryKeeper> keep_in_store(std::string directory) {
  return std::make_unique<InStore>(std::move(directory));
}

void MemoryServer::on_want(const MemoryFrame& want) {
  const bool urgent = want.part == MemoryPart::kWant;
  auto& queue = urgent ? urgent_ : later_;
  if (queue.size() >= kMostWants || want.pages.size() > kLargestWant) return;
  if (urgent) {
    // Not twice.
    std::erase_if(later_, [&](const Want& each) {
      return each.pid == want.pid && each.pages.start >= want.pages.start &&
             each.pages.end <= want.pages.end;
    });
  }
  queue.push_back({want.pid, want.pages});
  pump();
}

// For what is wanted later. Then it comes back by itself.
bool MemoryServer::is_early() {
  if (Pacer::Clock::now() >= pacer_.next()) return false;
  waited_ = true;
  pump_at(pacer_.next());
  return true;
}

void MemoryServer::pump_at(Pacer::Clock::time_point when) {
  timer_.expires_at(when);
  timer_.async_wait([this](const boost::system::error_code& canceled) {
    if (!canceled) pump();
  });
}

void MemoryServer::pump() {
  int served_now = 0;
  while (!urgent_.empty() || !later_.empty()) {
    if (link_.congested()) {
      waited_ = true;
      return;
    }
    if (urgent_.empty() && is_early()) return;
    auto& queue = urgent_.empty() ? later_ : urgent_;
    Want& next = queue.front();
    const uint64_t end = std::min(next.pages.end, next.pages.start + kMemoryBytesPerFrame);
    const Want piece{next.pid, {next.pages.start, end}};
    next.pages.start = end;
    if (next.pages.start == next.pages.end) queue.pop_front();
    if (&queue == &later_) pacer_.sent(piece.pages.size());
    const Status served = serve(piece);
    if (served.ok() && ++served_now < kFramesAtOnce) continue;
    if (served.ok()) return pump_at(Pacer::Clock::now());
    const MemoryFrame gone{MemoryPart::kGone, piece.pid, piece.pages, served.error().message()};
    link_.send(encode_memory(migration_, gone));
    return on_link_down();
  }
}

Status MemoryServer::serve(const Want& want) {
  buffer_.resize(want.pages.size());
  DVS_TRY(keeper_->read(want.pid, want.pages, buffer_.data()));
  return mover::for_each_run(want.pages, buffer_.data(), [&](mover::PageRange run, bool zero) {
    MemoryFrame frame{zero ? MemoryPart::kDrop : MemoryPart::kPages, want.pid, run, {}};
    if (!zero) frame.bytes = {buffer_.data() + (run.start - want.pages.start), run.size()};
    served_ += frame.bytes.size();
    std::optional<std::string> packed;
    if (!zero) packed = packer_.pack(frame.bytes, std::exchange(waited_, false));
    if (packed) frame = {MemoryPart::kPacked, want.pid, run, *packed};
    link_.send(encode_memory(migration_, frame));
    return Status();
  });
}

}  // namespace dvs
