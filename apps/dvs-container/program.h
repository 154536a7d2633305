// A program to be started inside a container, and the process that will become it.
#pragma once

#include <string>
#include <vector>

#include "birth.h"
#include "options.h"

namespace dvs::helper {

struct Program {
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::vector<std::string> cgroups;
  std::string cwd = "/";
  std::string log;
};

constexpr char kGo = 'g';

// As dvsd wrote it, see run_program(). Closes `fd`.
Result<Program> read_program(int fd);

// Creates the program's process: in a new session, with its own stdio and nothing else, in the
// groups. Over `control`, a SOCK_SEQPACKET socket that exec
// closes, it sends {"dc_pid": N} or an error, waits for kGo (else it ends) and execs; if that fails
// it sends the error and ends.
//
// To be called in a process born inside that ends at once afterwards, so that the program's parent
// becomes the container's first process. An id outside the node's range may belong to another
// node: such a process is given up, and a second one made from the start of the range.
Status fork_program(const Options& options, Program& program, const BirthGroups& groups,
                    int control);

}  // namespace dvs::helper
