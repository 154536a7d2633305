// What criu has found out about the kernel and keeps in a file.
#pragma once

namespace dvs::helper {

// Has the criu that is started next believe that the kernel tracks writes (soft-dirty). False: the
// file is not there, or not as we know it. Other dumps and restores do not care.
bool claim_write_tracking();

}  // namespace dvs::helper
