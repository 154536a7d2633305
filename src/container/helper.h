// What container.cc and launch.cc share about the dvs-container program. Private to this folder.
#pragma once

#include "base/json.h"
#include "container/container.h"

namespace dvs {

// One line that the helper wrote: an object, or the Error it carries. kInternal when it is neither.
Result<Json> parse_helper_line(const std::string& line);

// Container::launch() for a container that is known to live. `run_command` is the helper's command
// line with the options that name the container: {helper, "run", "--init", ...}.
void launch_program(Executor& executor, std::vector<std::string> run_command, LaunchSpec spec,
                    Done<std::unique_ptr<Launch>> done);

}  // namespace dvs
