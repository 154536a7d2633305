// Links: one TCP connection per pair of nodes, over which frames travel in order. A link may break
// and come back at any time; what was sent on the old connection and not delivered is gone, and
// the layers above send again what was not answered (every operation is idempotent, see
// proxy/remote_ops.h). That is where exactly-once comes from, not from here.
//
// The node with the smaller id connects, the other accepts. The first frame in each direction is
// kHello: JSON {"cluster", "node" (id), "name", "incarnation", "to" (id of the node meant)}; the
// connecting node speaks first and sends nothing more until it is answered. A peer with another
// cluster's name, an unknown id or a wrong first frame is refused: its connection is closed and the
// reason logged. Bytes that are no frames close that one connection and nothing else.
//
// With an identity (tls/session.h) every link is TLS 1.3, and the peer's certificate must be that
// of the node whose id its hello says, as the directory names it. Without, nobody proves who he is.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/executor.h"
#include "base/ids.h"
#include "tls/session.h"
#include "wire/frame.h"

namespace dvs {

struct LinkOptions {
  std::string cluster;
  NodeId node = 0;
  std::string name;
  uint64_t incarnation = 0;    // differs each time dvsd starts
  std::string listen_address;  // "10.0.0.1"
  uint16_t listen_port = 0;    // 0: any; see Links::port()
  std::chrono::milliseconds reconnect{100};
  std::chrono::milliseconds ping{1000};     // sent when nothing else was, for this long
  std::chrono::milliseconds silence{4000};  // no bytes for this long: the link is closed; also
                                            // when the peer takes none while there are some for it
  size_t backlog = 512u << 20;              // more bytes that wait for the peer: likewise
  std::chrono::milliseconds hello{2000};    // to connect and say hello
  bool compress = false;  // what is large and gets smaller by it; any node understands it
  bool batch = true;      // frames of one turn of the event loop in one write
  std::shared_ptr<tls::Identity> tls;  // none: plain
};

// Called on the Executor's thread, never from inside a call to Links; each may call anything of
// Links, also destroy it. For each peer on_up and on_down alternate, starting with on_up, and
// frames come only between the two. A peer that restarted is seen as on_down, then on_up.
struct LinkEvents {
  std::function<void(NodeId peer)> on_up;
  std::function<void(NodeId peer, std::string reason)> on_down;
  std::function<void(NodeId peer, wire::Frame frame)> on_frame;
  // The send queue of a congested link has drained below half of its limit.
  std::function<void(NodeId peer)> on_writable;
};

class Links {
 public:
  virtual ~Links() = default;  // closes everything; no event comes after

  virtual uint16_t port() const = 0;

  // Keeps a link to this peer from now on (connecting, or expecting it to connect), until
  // forget(). `name` is what its certificate says, `address` a numeric one. Naming a peer again
  // with another address moves it there: if we are the one that connects, an existing link is
  // closed and the new address is tried; a peer that connects to us will do so by itself. REQUIRES:
  // peer < kMaxNodes, not this node.
  virtual void expect(NodeId peer, std::string name, std::string address, uint16_t port) = 0;
  virtual void forget(NodeId peer) = 0;  // closes its link, with on_down

  virtual bool is_up(NodeId peer) const = 0;
  // Queues a frame whose body is `head`, then `bulk` (which is not copied, and must not change any
  // more); never blocks. On an idle link it is in the kernel on return; what is sent from then on
  // goes out together, when the event loop comes round. False, and nothing queued, when the link is
  // down. True is no promise that it arrives.
  virtual bool send(NodeId peer, wire::FrameType type, std::string_view head,
                    const Bytes& bulk = {}) = 0;
  // Bulk senders stop while this is true and go on at on_writable. (Limit: 1 MiB queued.)
  virtual bool congested(NodeId peer) const = 0;
  // Closes the connection as if it had broken (fault injection and tests); it will come back.
  virtual void drop(NodeId peer, const std::string& reason) = 0;
  // After tls::Identity::reload(): closes the links of peers whose certificates do not do any more.
  virtual void recheck() = 0;
};

// Starts to listen. Errors: kConflict (address in use), kInvalid (bad address), kInternal.
Result<std::unique_ptr<Links>> open_links(Executor& executor, LinkOptions options,
                                          LinkEvents events);

}  // namespace dvs
