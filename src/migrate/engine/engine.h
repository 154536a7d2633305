// The engine: checkpoints a frozen process tree and restores it on another node, stopped before
// its first instruction until told to go on or to vanish. CRIU does the work (engine/criu.cc).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "migrate/engine/memory_apart.h"

namespace dvs {

// How to run a program inside a DC: its command line is appended to `prefix`, which enters the
// DC's pid, mount and time namespaces (apps/dvs-enter, or nsenter in tests) and runs as root there.
struct EngineSite {
  std::vector<std::string> prefix;
  std::string dir;  // on tmpfs, as dvsd sees it; the DC does not
};

struct DumpRequest {
  EngineSite site;
  pid_t root_pid = 0;       // root of the tree, as numbered inside the DC
  std::string freezer_dir;  // cgroup directory that holds exactly this tree, ALREADY frozen; as
                            // seen by dvsd
  // Leave movable memory (mover/memory_map.h) out of the images: somebody else carries it.
  bool apart = false;
  std::vector<mover::ProcessId> processes = {};  // of the tree; for dump(), when `apart`
  NotesOfProcesses notes = {};                   // of a moment ago; make that dump quicker
};

struct RestoreRequest {
  EngineSite site;
  // Cgroup the restored tree shall live in: the file to write the pid of the restoring command to
  // before it starts (all its children are born there), or empty.
  std::vector<std::string> cgroup_procs_files;
  // The images are of a dump with `apart`; a pager listens on lazy-pages.socket in site.dir.
  bool apart = false;
};

struct DumpResult {
  uint64_t image_bytes = 0;
  int64_t duration_ns = 0;
};

// A restored tree that waits before its first instruction. Survives the death of dvsd: it stays
// held until somebody decides through its gate file.
class HeldTree {
 public:
  virtual ~HeldTree() = default;  // does NOT decide
  // Lets it run. `done` when it does (the restoring command has ended well).
  virtual void resume(Done<bool> done) = 0;
  // Ends it without one instruction executed. `done` when it is gone.
  virtual void kill(Done<bool> done) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // The engine's name and version, e.g. "criu 4.2.1".
  virtual const std::string& version() const = 0;
  // Why dumps `apart` fail on this node; empty: they do not.
  virtual const std::string& why_not_apart() const = 0;

  // Optional, ahead of dump() or restore() for the same site, task and cgroups: starts the engine's
  // process so that it only waits for the word, which halves the time of the operation proper. The
  // task may run on until the dump. A failure shows in the operation. At most one per site; a
  // prepared process of a dead dvsd ends. `ready`: it waits now (or never will; the operation then
  // fails, or starts one of its own).
  virtual void prepare_dump(const DumpRequest& request, std::function<void()> ready = {}) = 0;
  virtual void prepare_restore(const RestoreRequest& request, std::function<void()> ready = {}) = 0;
  // Optional, once per DC: learns what the kernel can do, which takes some 30 ms the first time.
  virtual void warm_up(const EngineSite& site) = 0;
  // Ends what was prepared for the site and not used.
  virtual void discard(const EngineSite& site) = 0;

  // Writes images of the tree into site.dir (created here or by prepare_dump(); must be empty
  // before that). The tree stays frozen
  // and alive, whatever the outcome; the caller thaws or kills it. Errors: kUnsupported — it
  // uses something the engine cannot move; the message names it in a user's words (from criu's
  // log); kNoSpace — the directory's tmpfs is full; kTimeout; kInternal with the first error line.
  virtual void dump(DumpRequest request, Done<DumpResult> done) = 0;

  // Restores from site.dir and holds. Errors as above, and kConflict: a process or thread id
  // is taken on this node; kNotFound: a file the process has mapped or open does not exist here.
  // After an error nothing of the tree is left (killed, though perhaps not reaped yet).
  // A regular file that the process has open or mapped must exist here, and have the size it had at
  // the dump (a program or library: the same build) unless it is open for appending only.
  virtual void restore(RestoreRequest request, Done<std::unique_ptr<HeldTree>> done) = 0;

  // This node's CPU in the engine's words (some hundred bytes), to be sent to a target: the same
  // for the life of the node. `scratch_dir`: a directory of ours to work in, created and removed.
  virtual void describe_cpu(const std::string& scratch_dir, Done<std::string> done) = 0;
  // Can a process that ran on the CPU described so go on here? This one may have more features.
  // kUnsupported saying what is missing; kCorrupt when it is no such description.
  virtual void check_cpu(const std::string& scratch_dir, const std::string& description,
                         Done<bool> done) = 0;

  // After a restart of dvsd: the held tree whose images are in this site, if one is waiting.
  virtual Result<std::unique_ptr<HeldTree>> find_held(const EngineSite& site) = 0;
  // Whether the tree restored there has begun to run.
  virtual bool has_resumed(const EngineSite& site) const = 0;
};

struct CriuOptions {
  std::string program;  // path of a criu >= 4.2, or of a wrapper for it
  std::string runner;   // path of dvs-criu
  std::chrono::milliseconds timeout{60000};
};

// Looks criu up and asks its version. kUnsupported when it is missing or older than 4.2.
Result<std::unique_ptr<Engine>> open_criu(Executor& executor, CriuOptions options);

}  // namespace dvs
