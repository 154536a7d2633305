#include "migrate/memory_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <utility>

#include "base/file.h"
#include "base/log.h"

namespace dvs {

using mover::PagerVerb;
using mover::PagerWord;

MemoryFetch::MemoryFetch(Executor& executor, std::string migration, std::string directory,
                         UniqueFd pager, Send send)
    : migration_(std::move(migration)),
      directory_(std::move(directory)),
      pager_(executor, pager.release()),
      send_(std::move(send)) {}

Result<UniqueFd> MemoryFetch::connect(const std::string& directory) {
  const UniqueFd at(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const std::string path = "/proc/self/fd/" + std::to_string(at.get()) + "/" + mover::kPagerSocket;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (at.valid() && ::connect(socket.get(), name, sizeof address) == 0) return socket;
  return Error(Code::kNotFound, "its pager has ended");
}

void MemoryFetch::listen() {
  pager_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                    [weak = weak_from_this()](const boost::system::error_code& ec) {
                      const auto self = weak.lock();
                      if (self == nullptr || ec) return;
                      while (self->hear()) {
                      }
                      if (!self->ended()) self->listen();
                    });
}

// False: there was nothing to be heard.
bool MemoryFetch::hear() {
  PagerWord word;
  const ssize_t size = ::recv(pager_.native_handle(), &word, sizeof word, MSG_DONTWAIT);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (size != sizeof word) {
    end();
    return false;
  }
  if (word.verb == PagerVerb::kReady) {
    ready_ = true;
    if (auto ready = std::exchange(on_ready_, nullptr)) ready();
  }
  if (word.verb != PagerVerb::kWant && word.verb != PagerVerb::kWantLater) return true;
  wanted_[word.pid].add(word.pages);
  const auto part = word.verb == PagerVerb::kWant ? MemoryPart::kWant : MemoryPart::kWantLater;
  send_(encode_memory(migration_, {part, word.pid, word.pages, {}}));
  return true;
}

void MemoryFetch::end() {
  pager_.close();
  if (auto ready = std::exchange(on_ready_, nullptr)) ready();
  if (auto ended = std::exchange(on_end_, nullptr)) ended();
}

void MemoryFetch::await_ready(std::function<void()> ready) {
  if (ready_ || !pager_.is_open()) return ready();
  on_ready_ = std::move(ready);
}

void MemoryFetch::await_end(std::function<void()> ended) {
  if (!pager_.is_open()) return ended();
  on_end_ = std::move(ended);
}

void MemoryFetch::tell(PagerVerb verb, pid_t pid, mover::PageRange pages, std::string_view text) {
  const PagerWord word{verb, pid, pages};
  std::string packet(reinterpret_cast<const char*>(&word), sizeof word);
  packet += text.substr(0, mover::kLongestWord - sizeof word);
  unsaid_.push_back(std::move(packet));
  if (!awaits_room_) speak();
}

// Never waits for the pager, which may be waiting for us.
void MemoryFetch::speak() {
  while (!ended() && !unsaid_.empty()) {
    const std::string& packet = unsaid_.front();
    const ssize_t said =
        ::send(pager_.native_handle(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (said < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    unsaid_.pop_front();  // a pager that has gone is noticed by listen()
  }
  if (ended() || unsaid_.empty()) return;
  awaits_room_ = true;
  pager_.async_wait(boost::asio::posix::stream_descriptor::wait_write,
                    [weak = weak_from_this()](const boost::system::error_code& ec) {
                      const auto self = weak.lock();
                      if (self == nullptr || ec) return;
                      self->awaits_room_ = false;
                      self->speak();
                    });
}

void MemoryFetch::on_frame(const MemoryFrame& frame) {
  if (frame.part == MemoryPart::kGone) return tell(PagerVerb::kGone, 0, {}, frame.bytes);
  // Some of it may have come already: what was asked for ahead, and then urgently. The pager knows.
  const auto wanted = wanted_.find(frame.pid);
  if (wanted == wanted_.end() || !wanted->second.intersects(frame.pages)) return;
  wanted->second.remove(frame.pages);
  if (frame.part == MemoryPart::kDrop) return tell(PagerVerb::kZeros, frame.pid, frame.pages);
  if (Status stored = store(frame); !stored.ok()) {
    return tell(PagerVerb::kGone, 0, {}, stored.error().message());
  }
  fetched_ += frame.bytes.size();
  tell(PagerVerb::kStored, frame.pid, frame.pages);
}

Status MemoryFetch::store(const MemoryFrame& frame) {
  if (!store_) {
    DVS_ASSIGN(store_, mover::Store::open(directory_ + "/" + mover::kStoreName));
  }
  return store_->write(frame.pid, frame.pages.start, frame.bytes);
}

void MemoryFetch::on_link_up() {
  for (const auto& [pid, wanted] : wanted_) {
    for (const mover::PageRange& pages : wanted.ranges()) {
      send_(encode_memory(migration_, {MemoryPart::kWant, pid, pages, {}}));
    }
  }
}

Result<Json> MemoryFetch::outcome(const std::string& directory) {
  auto text = read_file(directory + "/" + mover::kPagerOutcome);
  if (!text.ok()) return Error(Code::kNotFound, "the pager was killed");
  const std::string complete = std::string(mover::kComplete) + "\n";
  if (!text->starts_with(complete)) return Error(Code::kUnavailable, *text);
  return parse_json(text->substr(complete.size()));
}

}  // namespace dvs
