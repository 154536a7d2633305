// M3-IPC across nodes for one DC on one node: carries local processes' operations to their peers'
// nodes and acts for remote processes here, through their mirrors (dvk/layout.h). A state machine:
// no I/O, no clock, no threads; what it knows is in the region, so a restarted dvsd goes on where
// its predecessor was killed.
//
// Exactly once. An operation stays in its owner's descriptor, at the owner's node, until it has a
// result. That node alone drives it: it sends kRequest when the operation is posted and AGAIN
// whenever the answer may have been lost: the link came back, dvsd restarted, the peer or the owner
// moved. The peer's node recognises it by incarnation and number: the first time it is booked in
// the owner's mirror, later it is answered from there. What was taken on one node and asked for on
// another is known through the capsule (dvk/capsule.h). A request names the epoch of the peer's
// location that its sender believes in; one with an old epoch is not booked, so a late
// duplicate can do nothing.
//
// dvsd never pushes a remote request into its receiver: it books and announces it, and the
// receiver takes it with one compare-and-swap. So there is no moment at which the death of dvsd
// leaves it unknown whether it was taken. (Answers are pushed: a repeated one finds nobody
// waiting.)
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "dvk/node_view.h"
#include "wire/operation.h"

namespace dvs {

class RemoteOps {
 public:
  // What a node provides. Calls back into RemoteOps only later, never from inside these.
  class Env {
   public:
    virtual ~Env() = default;
    // False: the link is down (on_link_up() will come when it is not).
    virtual bool send(NodeId node, const wire::Operation& operation) = 0;
    // Calls drive(slot) some milliseconds later.
    virtual void drive_later(uint32_t slot) = 0;
    // The directory's news are known here as far as the one that made this incarnation, and nothing
    // is bound to the slot by it: whatever is not known of it here, never will be. (A node that
    // was lost and is back knows nothing of what it had.)
    virtual bool is_forgotten(uint32_t slot, uint64_t incarnation) const = 0;
    // The memory of the process bound to a slot on this node. OK or an EDVS error.
    virtual int read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) = 0;
    virtual int write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) = 0;
  };

  RemoteOps(const dvk::Region& region, NodeId self, Env& env)
      : region_(region), self_(self), env_(env) {}

  // The region's doorbell rang: looks at everything marked outbound.
  void on_doorbell();
  // From a peer node. The content is input: out-of-range slots and nonsense are ignored.
  void on_operation(NodeId from, const wire::Operation& operation);
  void on_link_up(NodeId node);
  // A node has gone from the region's node table, or come back.
  void on_nodes_changed();
  // The endpoint in `slot` was bound, moved, or its migration ended: drives whatever concerns it.
  void on_place_changed(uint32_t slot);
  // After a restart: everything.
  void drive_all();

  // Moves a local process's outstanding operation on, from wherever it stands.
  void drive(uint32_t slot);

 private:
  // One piece of a copy under way: read from its source, then written to its target.
  struct Window {
    uint64_t offset = 0;
    uint32_t bytes = 0;
    bool writing = false;  // it has been read
    Bytes data;
    bool waiting = false;  // for an answer about `party`, from `node`
    uint32_t party = 0;
    NodeId node = 0;
    uint32_t step = 0;
  };
  struct Copy {
    uint64_t number = 0;
    int source = 0;
    int target = 0;
    uint64_t source_address = 0;
    uint64_t target_address = 0;
    uint64_t bytes = 0;
    uint64_t begun = 0;  // bytes that have been, or are, in a window
    int rc = 0;          // once it is an error, what is under way is waited for, and nothing begun
    std::list<Window> windows;

    bool waits() const;
  };

  wire::Operation operation_of(uint32_t slot, wire::OperationType type, uint64_t number) const;
  bool is_carried(uint32_t slot) const;
  bool still_outstanding(uint32_t slot, uint64_t number) const;
  void drive_posted(wire::Operation& request, const dvk::TxWord& tx);
  void drive_cancel(wire::Operation& cancel);
  bool ask_last_node(wire::Operation& operation, const dvk::Descriptor& receiver);
  bool send_to_peer(wire::Operation& operation, const dvk::Descriptor& receiver);
  void report(uint32_t slot);
  void report_to(NodeId node, uint32_t slot);

  void on_request(NodeId from, const wire::Operation& operation);
  void on_cancel(NodeId from, const wire::Operation& operation);
  void on_ack(const wire::Operation& operation);
  void on_answer(const wire::Operation& operation);
  void on_moved(const wire::Operation& operation);
  enum class Place { kHere, kUnknown, kLeft, kDied };
  Place place_of(const wire::Operation& operation, uint32_t peer) const;
  bool is_final(const wire::Operation& operation) const;
  static bool is_being_answered(const dvk::Descriptor& mirror, uint64_t next);
  void book(const wire::Operation& operation);
  void hand_over(uint32_t slot);
  void repair(uint32_t slot);
  bool take_back(uint32_t slot, uint64_t number);
  void answer(NodeId to, const wire::Operation& request, wire::OperationType type, int rc = 0,
              uint32_t epoch = 0);
  static int result_from_elsewhere(int rc);
  bool is_mine(const wire::Operation& operation) const;

  void drive_copy(uint32_t slot, uint64_t number);
  void cancel_copy(uint32_t slot, uint64_t number);
  void step_copy(uint32_t slot, Copy& copy);
  int step_windows(uint32_t slot, Copy& copy);
  int step_window(uint32_t slot, const Copy& copy, Window& window);
  void await_answer(Window& window, uint32_t party, wire::Operation& step);
  Window* find_window(const wire::Operation& answer);
  void stop_waiting(uint32_t slot, const std::function<bool(const Window&)>& which);
  template <typename Transfer>
  int with_memory(uint32_t requester, uint32_t party, Transfer transfer);
  int step_read(uint32_t slot, const Copy& copy, Window& window);
  int step_write(uint32_t slot, const Copy& copy, Window& window);
  void on_copy_read(NodeId from, const wire::Operation& operation);
  void on_copy_write(NodeId from, const wire::Operation& operation);
  void on_retry(const wire::Operation& operation);
  void on_copy_result(const wire::Operation& operation);
  int party_here(const wire::Operation& operation, uint32_t& slot);

  const dvk::Region& region_;
  const NodeId self_;
  Env& env_;
  std::map<uint32_t, Copy> copies_;  // by requester
  uint32_t copy_steps_ = 0;
  struct CopyHome {
    uint64_t incarnation = 0;
    uint32_t epoch = 0;
  };
  std::map<uint32_t, CopyHome> copy_homes_;  // newest place known of remote requesters
};

}  // namespace dvs
