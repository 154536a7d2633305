#include "migrate/schedule.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <iterator>

namespace dvs {
namespace {

// What takes no longer when it is stopped, is not copied before: to watch it takes as long.
constexpr double kWatchingMs = 1;
constexpr double kLikelySpeed = 500.0 * (1 << 20);  // bytes per second, where none is known yet
// Rounds that leave more than this part of what the last one left do not converge.
constexpr double kNoProgress = 0.8;
constexpr double kNsPerSecond = 1e9;
// After so many it is known which memory a process keeps using.
constexpr size_t kRoundsToKnow = 2;

constexpr const char* kNames[] = {"total-copy", "pre-copy", "on-demand", "file-server",
                                  "non-freezing"};

double mib(double bytes) { return bytes / (1 << 20); }

}  // namespace

const char* algorithm_name(Algorithm algorithm) { return kNames[static_cast<size_t>(algorithm)]; }

Result<Algorithm> algorithm_named(std::string_view name) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found != std::end(kNames)) return static_cast<Algorithm>(found - std::begin(kNames));
  return Error(Code::kInvalid, fmt::format("there is no algorithm '{}'; there are auto, {}", name,
                                           fmt::join(kNames, ", ")));
}

bool copies_ahead(std::string_view algorithm) {
  const auto named = algorithm_named(algorithm);
  return named.ok() && *named != Algorithm::kTotalCopy && *named != Algorithm::kOnDemand;
}

Result<Choice> choose_algorithm(std::string_view asked, const ChoiceFacts& facts) {
  if (asked != "auto") {
    DVS_ASSIGN(const Algorithm algorithm, algorithm_named(asked));
    const bool wants_server = algorithm == Algorithm::kFileServer;
    if (wants_server && !facts.file_server) {
      return Error(Code::kInvalid, "file-server needs a node that keeps the memory: a third one");
    }
    if (!wants_server && facts.file_server) {
      return Error(Code::kInvalid, std::string(asked) + " uses no file server");
    }
    return Choice{algorithm, "as asked for"};
  }
  if (facts.file_server) {
    return Choice{Algorithm::kFileServer, "a file server is named"};
  }
  const auto bytes = static_cast<double>(facts.memory_bytes);
  const double speed = facts.bytes_per_second > 0 ? facts.bytes_per_second : kLikelySpeed;
  if (bytes / speed * 1000 <= kWatchingMs) {
    return Choice{Algorithm::kTotalCopy,
                  fmt::format("its memory ({:.1f} MiB) is sent sooner than watched", mib(bytes))};
  }
  return Choice{Algorithm::kPreCopy,
                fmt::format("its memory ({:.0f} MiB) is copied before it stops", mib(bytes)), true};
}

double CopyingSchedule::bytes_per_second() const {
  double bytes = 0;
  double ns = 0;
  for (const mover::Round& round : rounds_) {
    bytes += static_cast<double>(round.changed_bytes);
    ns += static_cast<double>(round.duration_ns);
  }
  return ns == 0 ? 0 : bytes / ns * kNsPerSecond;
}

double CopyingSchedule::changed_bytes_per_second() const {
  if (rounds_.empty() || rounds_.back().interval_ns == 0) return 0;
  const mover::Round& last = rounds_.back();
  return static_cast<double>(last.changed_bytes) / static_cast<double>(last.interval_ns) *
         kNsPerSecond;
}

// As much as changes during a round as long as the last one. After a first round nothing is known.
uint64_t CopyingSchedule::expected_bytes() const {
  if (rounds_.empty()) return 0;
  const mover::Round& last = rounds_.back();
  if (last.interval_ns == 0) return last.populated_bytes;
  const double expected =
      changed_bytes_per_second() * static_cast<double>(last.duration_ns) / kNsPerSecond;
  return std::min(last.populated_bytes, static_cast<uint64_t>(expected));
}

std::chrono::duration<double, std::milli> CopyingSchedule::expected_downtime() const {
  const double speed = bytes_per_second();
  return std::chrono::duration<double, std::milli>(
      speed == 0 ? 0 : static_cast<double>(expected_bytes()) / speed * 1000);
}

bool CopyingSchedule::is_within_limit() const {
  return rounds_.size() >= 2 && expected_downtime() <= limits_.max_downtime;
}

std::string CopyingSchedule::enough(Algorithm algorithm) const {
  if (rounds_.size() < 2) return {};
  const mover::Round& last = rounds_.back();
  const mover::Round& before = rounds_[rounds_.size() - 2];
  if (is_within_limit()) {
    return fmt::format("what is left takes {:.1f} ms", expected_downtime().count());
  }
  if (algorithm == Algorithm::kNonFreezing && rounds_.size() >= kRoundsToKnow) {
    return fmt::format("it is known what it uses: {:.0f} MiB/s change",
                       mib(changed_bytes_per_second()));
  }
  if (static_cast<double>(last.changed_bytes) >
      kNoProgress * static_cast<double>(before.changed_bytes)) {
    return fmt::format("it changes {:.0f} MiB/s, and {:.0f} MiB/s can be sent: rounds do not help",
                       mib(changed_bytes_per_second()), mib(bytes_per_second()));
  }
  if (rounds_.size() >= static_cast<size_t>(limits_.max_rounds)) {
    return fmt::format("{} rounds were made", rounds_.size());
  }
  return {};
}

uint64_t CopyingSchedule::budget(Algorithm algorithm) const {
  if (algorithm != Algorithm::kOnDemand && algorithm != Algorithm::kNonFreezing) {
    return mover::Copier::kAll;
  }
  const std::chrono::duration<double> limit = limits_.max_downtime;
  return static_cast<uint64_t>(bytes_per_second() * limit.count());
}

Json to_json(const CopyingSchedule& schedule) {
  const mover::Round& last = schedule.last();
  return {{"round", schedule.rounds()},
          {"memory_bytes", last.populated_bytes},
          {"changed_bytes", last.changed_bytes},
          {"sent_bytes", last.sent_bytes},
          {"changed_bytes_per_second", schedule.changed_bytes_per_second()},
          {"changed_pages_per_second", schedule.changed_bytes_per_second() / mover::kPageSize},
          {"bytes_per_second", schedule.bytes_per_second()},
          {"expected_bytes", schedule.expected_bytes()},
          {"expected_downtime_ms", schedule.expected_downtime().count()}};
}

}  // namespace dvs
