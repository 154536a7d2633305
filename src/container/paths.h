// Where a node keeps things. Everything is on the node's /run (a tmpfs): it outlives dvsd, not the
// machine.
//
//   RUN/                          /run/dvs unless configured otherwise
//     node.json                   this node's identity and lease, written by dvsd
//     dcs/DC/                     one distributed container's part on this node
//       dc.json                   its record: id, first process, pid range
//       shared/                   in the DC's view: /run/dvs/dc
//         region                  the DVK's shared memory (src/dvk/layout.h)
//         logs/TASK.log           what a task wrote to stdout and stderr
//         exits                   "PID STATUS\n" for each process the DC's first process reaped
//       engine/MIGRATION/         images of a process that moves; not in the DC's view
//       tasks/TASK.json           what dvsd must know of a task after a restart
#pragma once

#include <string>

namespace dvs::paths {

constexpr const char* kDcShared = "/run/dvs/dc";  // inside a DC
constexpr const char* kDcRegion = "/run/dvs/dc/region";

inline std::string dc_dir(const std::string& run, const std::string& dc) {
  return run + "/dcs/" + dc;
}
inline std::string shared_dir(const std::string& dc_dir) { return dc_dir + "/shared"; }
inline std::string region(const std::string& dc_dir) { return dc_dir + "/shared/region"; }
inline std::string logs_dir(const std::string& dc_dir) { return dc_dir + "/shared/logs"; }
inline std::string exits_file(const std::string& dc_dir) { return dc_dir + "/shared/exits"; }
// Relative to the shared directory: for shared_files.h.
constexpr const char* kExits = "exits";
inline std::string log_file(const std::string& task) { return "logs/" + task + ".log"; }
inline std::string engine_dir(const std::string& dc_dir) { return dc_dir + "/engine"; }
inline std::string tasks_dir(const std::string& dc_dir) { return dc_dir + "/tasks"; }

}  // namespace dvs::paths
