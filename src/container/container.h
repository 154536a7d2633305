// One DC's part on one node: pid, mount, time and ipc namespaces with a first process
// (`dvs-container init`) that only reaps, so that they outlive dvsd. Programs are started in it
// from outside. Process ids come from the node's own range, so they are unique in the whole DC.
//
// Inside: the node's file system, read-only. The DC's own are /proc, /dev (null, zero, random, tty,
// pts, shm), /tmp, /var/tmp, and /run, where only /run/dvs/dc (the shared directory) is: nothing of
// another DC, and no socket of the node, can be reached by name. What concerns the whole machine in
// /proc is read-only or hidden, so are /sys and the cgroups.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/executor.h"
#include "container/process_ids.h"

namespace dvs {

struct ContainerSpec {
  std::string name;
  std::string dir;        // paths::dc_dir(); its subdirectories are created here
  pid_t first_pid = 300;  // ids given to processes are first_pid .. last_pid
  pid_t last_pid = 4194303;
  pid_t next_pid = 0;  // the first one to be given out; 0: first_pid
  // What to add to the INITIAL time namespace's CLOCK_MONOTONIC (and _BOOTTIME) inside the DC.
  int64_t monotonic_offset_ns = 0;
  // Directories of the node: in sight (read-only) although below one that the DC has its own of;
  // the same, and writable; not in sight. The first two must exist.
  std::vector<std::string> shown;
  std::vector<std::string> writable;
  std::vector<std::string> hidden;
};

struct LaunchSpec {
  std::vector<std::string> argv;  // argv[0] with a slash is a path inside; else looked up in PATH
  std::vector<std::string> env;   // "K=V"; the whole environment of the program
  std::string cwd = "/";
  std::string log_path;  // inside the DC; created, opened O_APPEND as stdout and stderr
  std::vector<std::string> cgroup_procs_files;  // as seen by dvsd; the program is born in these
};

// A program created inside a container and stopped before its exec.
class Launch {
 public:
  virtual ~Launch() = default;         // without go(): the program is ended, nothing of it ran
  virtual pid_t host_pid() const = 0;  // as dvsd sees it
  virtual pid_t dc_pid() const = 0;    // as the DC sees it
  // Execs it. kNotFound / kDenied naming the program when that fails; nothing is left then.
  virtual void go(Done<bool> done) = 0;
};

class Container {
 public:
  virtual ~Container() = default;  // the namespaces stay; see destroy()

  virtual const ContainerSpec& spec() const = 0;
  virtual pid_t init_pid() const = 0;  // as dvsd sees it
  virtual bool alive() const = 0;

  // Command line prefix that runs what follows inside (pid, mount, time and ipc namespaces, root,
  // stdio, other descriptors and environment as given): {".../dvs-container", "enter", "--init",
  // "PID", ..., "--"}. The program's exit status is passed on, 128 + N for signal N; 125: the
  // container cannot be entered, 126 and 127: the program cannot be started, does not exist. The
  // program can be born in cgroups: insert {"--cgroup", FILE} (cgroup.procs, as dvsd sees it)
  // before the last element; writing its pid there afterwards may block for 16 ms. The program
  // gets SIGTERM, SIGINT, SIGHUP, SIGQUIT sent to the helper and is killed with it.
  virtual std::vector<std::string> enter_prefix() const = 0;

  // Starts a program: new session, stdin /dev/null opened inside, its parent is the container's
  // first process. Keeps the pid counter inside the node's range.
  virtual void launch(LaunchSpec spec, Done<std::unique_ptr<Launch>> done) = 0;

  // Ends every process inside (frozen ones must be thawed by the caller) and the namespaces;
  // waits until the first process is gone. The directory stays. kTimeout after 15 s: a process is
  // frozen, or a zombie whose parent is outside; it ends when that is over.
  virtual void destroy(Done<bool> done) = 0;
};

// `helper`: path of the dvs-container program.
void create_container(Executor& executor, std::string helper, ContainerSpec spec,
                      Done<std::unique_ptr<Container>> done);

// A container that an earlier dvsd created, by the first process's pid and start time (field 22
// of /proc/PID/stat). kNotFound when that process is gone.
struct ContainerHandle {
  pid_t init_pid = 0;
  uint64_t init_start_time = 0;
};
Result<std::unique_ptr<Container>> reopen_container(Executor& executor, std::string helper,
                                                    ContainerSpec spec, ContainerHandle handle);
Result<ContainerHandle> container_handle(const Container& container);

}  // namespace dvs
