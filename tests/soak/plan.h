// What happens in each round, by the seed: which servers move how, and what goes wrong meanwhile.
#pragma once

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "migrate/faults.h"

namespace dvs::soak {

constexpr std::array<const char*, 6> kAlgorithms = {"total-copy",  "pre-copy",     "on-demand",
                                                    "file-server", "non-freezing", "auto"};

enum class Trouble {
  kNone,
  kPoint,        // one of migrate/faults.h
  kDvsdKilled,   // SIGKILL to the dvsd of some node, at some moment
  kNetworkCut,   // of some node, for up to 2 s
  kCanceled,     // as by `dvs migration cancel`
  kEtcdStopped,  // SIGSTOP for up to 2 s
  kEtcdKilled,   // and started again within 1 s
  kNodeOff,      // a node that has no server loses its power, and comes back
};
constexpr std::array<const char*, 8> kTroubles = {"none",        "point",    "dvsd killed",
                                                  "network cut", "canceled", "etcd stopped",
                                                  "etcd killed", "node off"};

struct Options {
  uint64_t migrations = 10'000;
  uint64_t seed = 0;
  int nodes = 3;
  int servers = 2;
  std::string algorithm;  // empty: all in turn
  int faults = 30;        // percent of the rounds
  int minutes = 0;        // 0: as long as it takes
  int pause_us = 0;
  int memory_mib = 4;  // of each server
};

// One server in one round: some migrations, one after the other.
struct Journey {
  std::vector<std::string> algorithms;  // of each
  int starts_after_us = 0;
  uint32_t dice = 0;  // who is asked, where to
};

struct FaultPlan {
  Trouble kind = Trouble::kNone;
  const FaultPoint* point = nullptr;
  int after_us = 0;  // from the start of the round
  int lasts_ms = 0;
  size_t server = 0;  // whose migration it is aimed at
  uint32_t dice = 0;  // which node
};

struct Round {
  uint64_t number = 0;
  std::vector<Journey> journeys;  // by server
  FaultPlan fault;
};

Round plan_round(const Options& options, uint64_t number);
std::string describe(const Round& round);

// Is the algorithm fit to come by the point? Empty: any is.
std::string algorithm_for(const FaultPoint& point);
// Must what is owed be slow, so that there is time for the point?
bool wants_slow(const FaultPoint& point);

}  // namespace dvs::soak
