#include "migrate/history.h"

#include <algorithm>
#include <set>

namespace dvs {
namespace {

using Entry = Cluster::MigrationEntry;
using Task = std::pair<std::string, std::string>;  // DC and task

bool is_over(const Entry& entry, const std::set<std::string>& later) {
  const MigrationRecord& record = entry.record;
  if (is_open(record.state) || record.memory == OwedMemory::kOwed) return false;
  if (record.settled || record.manual) return true;
  return later.count(record.source) != 0 && later.count(record.target) != 0;
}

}  // namespace

std::vector<const Entry*> removable(const std::map<std::string, Entry>& migrations, size_t kept,
                                    size_t most) {
  if (migrations.size() <= kept) return {};
  std::vector<const Entry*> by_age;
  for (const auto& [id, entry] : migrations) by_age.push_back(&entry);
  std::sort(by_age.begin(), by_age.end(),
            [](const Entry* a, const Entry* b) { return a->incarnation < b->incarnation; });
  std::map<Task, std::set<std::string>> later;  // nodes that have carried out later ones
  std::map<Task, const Entry*> needed;          // the first that has to stay
  for (auto at = by_age.rbegin(); at != by_age.rend(); ++at) {
    const MigrationRecord& record = (*at)->record;
    const Task task(record.dc, record.task);
    if (!is_over(**at, later[task])) needed[task] = *at;
    if (record.settled && !record.manual) later[task].insert({record.source, record.target});
  }
  most = std::min(most, migrations.size() - kept);
  std::vector<const Entry*> found;
  for (const Entry* entry : by_age) {
    if (found.size() == most) break;
    const auto stays = needed.find({entry->record.dc, entry->record.task});
    const bool before = stays == needed.end() || entry->incarnation < stays->second->incarnation;
    if (before) found.push_back(entry);
  }
  return found;
}

}  // namespace dvs
