// Which records of migrations that are over may be removed from the directory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "directory/cluster.h"

namespace dvs {

// The oldest of them, as long as more than `kept` are left, `most` at most. Of a task one goes only
// after those before it: a dvsd that comes back finds out by the last one what to do with a copy
// that it left (Participant::last_here). And only when nothing of it is left on its source and
// target: both have said so (`settled`), or have said so of a later migration of the task, which a
// node begins when it has carried out the earlier ones. (To have been asked for a later one says
// nothing: both may have been checked before either was started.)
std::vector<const Cluster::MigrationEntry*> removable(
    const std::map<std::string, Cluster::MigrationEntry>& migrations, size_t kept, size_t most);

}  // namespace dvs
