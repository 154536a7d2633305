// What the programs of a DC see of their node's files.
#pragma once

#include "options.h"

namespace dvs::helper {

// Changes the mounts of the calling process, which has a mount namespace and a pid namespace of its
// own, to the view of container.h.
Status build_view(const Options& options);

}  // namespace dvs::helper
