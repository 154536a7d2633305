// The gate at which a restored tree waits for the decision (its files: migrate/engine/gate.h).
#pragma once

#include <string>

namespace dvs::helper {

// `gate`: path of the gate's files without their suffix. Blocks until there is a decision. `report`
// is called when the tree waits. True: it shall run, and still can.
bool hold_at_gate(const std::string& gate, void (*report)());

// Notes that the tree runs.
bool mark_resumed(const std::string& gate);

}  // namespace dvs::helper
