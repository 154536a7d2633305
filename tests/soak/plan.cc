#include "soak/plan.h"

#include <spdlog/fmt/fmt.h>

#include <string_view>

#include "soak/protocol.h"

namespace dvs::soak {
namespace {

class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(mix(seed)) {}
  // 0 to limit - 1.
  int below(int limit) { return static_cast<int>(next() % static_cast<uint64_t>(limit)); }
  bool chance(int percent) { return below(100) < percent; }
  uint32_t any() { return static_cast<uint32_t>(next()); }

 private:
  uint64_t next() { return state_ = mix(state_); }
  uint64_t state_;
};

bool is_about(const FaultPoint& point, std::string_view word) {
  return point.name.find(word) != std::string_view::npos;
}

// How many of 200 faults are of each kind.
constexpr int kShares[] = {0, 100, 30, 18, 20, 15, 15, 2};
static_assert(std::size(kShares) == kTroubles.size());

Trouble any_kind(Dice& dice) {
  int left = dice.below(200);
  for (size_t kind = 0; kind < std::size(kShares); ++kind) {
    if ((left -= kShares[kind]) < 0) return static_cast<Trouble>(kind);
  }
  return Trouble::kPoint;
}

FaultPlan plan_fault(Dice& dice, const Options& options) {
  FaultPlan fault;
  fault.kind = any_kind(dice);
  fault.point = &kFaultPoints[static_cast<size_t>(dice.below(int{kFaultPoints.size()}))];
  fault.after_us = dice.below(120'000);
  fault.lasts_ms = 20 + dice.below(fault.kind == Trouble::kEtcdKilled ? 980 : 1980);
  fault.server = static_cast<size_t>(dice.below(options.servers));
  fault.dice = dice.any();
  return fault;
}

}  // namespace

std::string algorithm_for(const FaultPoint& point) {
  if (is_about(point, "copying")) return "pre-copy";
  if (wants_slow(point)) return "on-demand";
  if (point.role == MigrationRole::kKeeper) return "file-server";
  if (point.role == MigrationRole::kBystander)
    return "total-copy";  // with three nodes a file server is none
  return "";
}

bool wants_slow(const FaultPoint& point) {
  return is_about(point, "source-dies-keeping") || is_about(point, "filling");
}

Round plan_round(const Options& options, uint64_t number) {
  Dice dice(options.seed ^ mix(number));
  Round round;
  round.number = number;
  for (int i = 0; i < options.servers; ++i) {
    Journey journey;
    for (int left = 1 + dice.below(3); left > 0; --left) {
      const char* any = kAlgorithms[static_cast<size_t>(dice.below(int{kAlgorithms.size()}))];
      journey.algorithms.push_back(options.algorithm.empty() ? any : options.algorithm);
    }
    journey.starts_after_us = dice.below(40'000);
    journey.dice = dice.any();
    round.journeys.push_back(journey);
  }
  if (dice.chance(options.faults)) round.fault = plan_fault(dice, options);
  if (round.fault.kind == Trouble::kPoint) {
    const std::string fit = algorithm_for(*round.fault.point);
    if (!fit.empty()) round.journeys[round.fault.server].algorithms[0] = fit;
  }
  return round;
}

std::string describe(const Round& round) {
  const FaultPlan& fault = round.fault;
  std::string text = fmt::format("round {}:", round.number);
  for (size_t i = 0; i < round.journeys.size(); ++i) {
    text += fmt::format(" server {} by", i);
    for (const std::string& algorithm : round.journeys[i].algorithms) text += " " + algorithm;
    text += fmt::format(" after {} us;", round.journeys[i].starts_after_us);
  }
  if (fault.kind == Trouble::kNone) return text + " no fault";
  text += fmt::format(" {}", kTroubles[static_cast<size_t>(fault.kind)]);
  if (fault.kind == Trouble::kPoint) {
    return text + fmt::format(" {} for server {}", fault.point->name, fault.server);
  }
  return text + fmt::format(" after {} us, for {} ms", fault.after_us, fault.lasts_ms);
}

}  // namespace dvs::soak
