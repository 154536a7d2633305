#include "migrate/schedule.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace dvs {
namespace {

// Below it a round costs more than it saves.
constexpr uint64_t kSmall = 4 << 20;
// Rounds that leave more than this part of what the last one left do not converge.
constexpr double kNoProgress = 0.8;
constexpr double kNsPerSecond = 1e9;

double mib(double bytes) { return bytes / (1 << 20); }

}  // namespace

const char* algorithm_name(Algorithm algorithm) {
  return algorithm == Algorithm::kTotalCopy ? "total-copy" : "pre-copy";
}

Result<Choice> choose_algorithm(std::string_view asked, uint64_t memory_bytes) {
  for (const Algorithm each : {Algorithm::kTotalCopy, Algorithm::kPreCopy}) {
    if (asked == algorithm_name(each)) return Choice{each, "as asked for"};
  }
  if (asked != "auto") {
    return Error(Code::kInvalid, "there is no algorithm '" + std::string(asked) +
                                     "'; there are auto, total-copy and pre-copy");
  }
  if (memory_bytes < kSmall) {
    return Choice{Algorithm::kTotalCopy,
                  fmt::format("its memory ({:.1f} MiB) is sent sooner than watched",
                              mib(static_cast<double>(memory_bytes)))};
  }
  return Choice{Algorithm::kPreCopy,
                fmt::format("its memory ({:.0f} MiB) is copied before it stops",
                            mib(static_cast<double>(memory_bytes)))};
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

std::string CopyingSchedule::enough() const {
  if (rounds_.size() < 2) return {};
  const mover::Round& last = rounds_.back();
  const mover::Round& before = rounds_[rounds_.size() - 2];
  if (expected_downtime() <= limits_.max_downtime) {
    return fmt::format("what is left takes {:.1f} ms", expected_downtime().count());
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

Json to_json(const CopyingSchedule& schedule) {
  const mover::Round& last = schedule.last();
  return {{"round", schedule.rounds()},
          {"memory_bytes", last.populated_bytes},
          {"changed_bytes", last.changed_bytes},
          {"sent_bytes", last.sent_bytes},
          {"changed_bytes_per_second", schedule.changed_bytes_per_second()},
          {"bytes_per_second", schedule.bytes_per_second()},
          {"expected_bytes", schedule.expected_bytes()},
          {"expected_downtime_ms", schedule.expected_downtime().count()}};
}

}  // namespace dvs
