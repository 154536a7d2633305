// Mistakes that can be planted, to see that the simulator finds them.
#pragma once

#include <array>
#include <string_view>

namespace dvs::sim {

enum class Bug {
  kNone,
  kOutcomeNotCompared,       // the directory takes every proposal
  kResumedBeforeTheOutcome,  // a restored process does not wait
  kThawedOnLinkLoss,         // the source lets it go on when the link breaks, without asking
  kEndedWhileOwed,           // the source ends its copy at COMMIT, whatever is owed
  kHeldTreeForgotten,        // a dvsd that restarts does not find the restored process
  kTaskForgotten,            // ... the frozen process
  kGatesForgotten,           // ... gates that it had closed
  kDebtsForgotten,           // the capsule carries no debts
  kEpochNotRaised,           // the endpoint's place at the target has its old epoch
  kNewsLost,                 // one in ten changes of the directory is not heard of
  kLinkUpIgnored,            // what was lost with a link is not sent again
  kRollbackKeepsGates,       // a node that looks on does not open its gates
  kRestartCommits,           // a target that restarts takes an open migration for committed
  kBoundThoughLeft,          // the source binds again what may be another node's already
};

struct PlantedBug {
  Bug bug;
  std::string_view name;
};
inline constexpr std::array<PlantedBug, 14> kBugs = {{
    {Bug::kOutcomeNotCompared, "outcome-not-compared"},
    {Bug::kResumedBeforeTheOutcome, "resumed-before-the-outcome"},
    {Bug::kThawedOnLinkLoss, "thawed-on-link-loss"},
    {Bug::kEndedWhileOwed, "ended-while-owed"},
    {Bug::kHeldTreeForgotten, "held-tree-forgotten"},
    {Bug::kTaskForgotten, "task-forgotten"},
    {Bug::kGatesForgotten, "gates-forgotten"},
    {Bug::kDebtsForgotten, "debts-forgotten"},
    {Bug::kEpochNotRaised, "epoch-not-raised"},
    {Bug::kNewsLost, "news-lost"},
    {Bug::kLinkUpIgnored, "link-up-ignored"},
    {Bug::kRollbackKeepsGates, "rollback-keeps-gates"},
    {Bug::kRestartCommits, "restart-commits"},
    {Bug::kBoundThoughLeft, "bound-though-left"},
}};

}  // namespace dvs::sim
