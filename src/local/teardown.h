// Ends and removes what a local cluster may have left, whoever or whatever ended it.
#pragma once

#include <string>

#include "base/result.h"

namespace dvs::local {

// Thaws and kills every process in cgroup `group` ("dvs/CLUSTER...") and below, in whichever
// hierarchies the host has, and removes the groups. Fine when there are none. kTimeout after 10 s.
Status clear_cgroups(const std::string& group);

// Removes what up() makes in `dir`, the mark that it is ours last; `dir` itself stays.
Status remove_files(const std::string& dir);

}  // namespace dvs::local
