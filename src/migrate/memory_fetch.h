// Between the pager of a restored task (apps/dvs-pager) and the node that has what it is owed.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/executor.h"
#include "base/json.h"
#include "base/unique_fd.h"
#include "migrate/memory_frames.h"
#include "mover/pager_words.h"
#include "mover/store.h"

namespace dvs {

class MemoryFetch : public std::enable_shared_from_this<MemoryFetch> {
 public:
  using Send = std::function<bool(std::string_view body)>;  // to that node; false: no link

  // `directory`: of the migration; `pager`: the socket to it. REQUIRES: shared; start() is next.
  MemoryFetch(Executor& executor, std::string migration, std::string directory, UniqueFd pager,
              Send send);
  // To a pager that an earlier dvsd has started. kNotFound: it has ended (see outcome()).
  static Result<UniqueFd> connect(const std::string& directory);
  void start() { listen(); }

  // From the node that has the memory.
  void on_frame(const MemoryFrame& frame);
  void on_link_up();  // asks again for what has not come

  // Called when the pager takes processes in, or has ended; at once if it does, or has.
  void await_ready(std::function<void()> ready);
  uint64_t fetched_bytes() const { return fetched_; }
  bool ended() const { return !pager_.is_open(); }
  // Called when the pager has ended, at once if it has; see outcome().
  void await_end(std::function<void()> ended);
  // What the pager has left behind: what it has done, as JSON. An Error: why the memory could not
  // be had. kNotFound: it has left nothing.
  static Result<Json> outcome(const std::string& directory);

 private:
  void listen();
  bool hear();
  void tell(mover::PagerVerb verb, pid_t pid, mover::PageRange pages, std::string_view text = {});
  void speak();
  Status store(const MemoryFrame& frame);
  void end();

  const std::string migration_;
  const std::string directory_;
  boost::asio::posix::stream_descriptor pager_;
  const Send send_;
  std::deque<std::string> unsaid_;  // words that the pager's socket has no room for yet
  bool awaits_room_ = false;
  std::map<pid_t, mover::PageSet> wanted_;
  std::optional<mover::Store> store_;
  bool ready_ = false;
  std::function<void()> on_ready_;
  std::function<void()> on_end_;
  uint64_t fetched_ = 0;
};

}  // namespace dvs
