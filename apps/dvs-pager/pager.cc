#include "pager.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "mover/store.h"

namespace dvs::helper {
namespace {

constexpr uint32_t kRestoreFinished = 0x52535446;

// criu's: a process's pid, or that all is restored; after a pid comes its userfaultfd. False: it
// has gone.
bool receive_word(int socket, int32_t& word) {
  return ::recv(socket, &word, sizeof word, MSG_WAITALL) == sizeof word;
}

UniqueFd receive_descriptor(int socket) {
  char byte = 0;
  iovec data{&byte, sizeof byte};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return UniqueFd(fd);
}

}  // namespace

bool Pager::done() const {
  if (unwanted_) return true;
  return restored_ && std::all_of(processes_.begin(), processes_.end(),
                                  [](const PagedProcess& each) { return each.empty(); });
}

void Pager::run() {
  while (!done()) {
    wait();
    if (!restored_) continue;  // what criu is restoring is not to be slowed down
    for (PagedProcess& process : processes_) {
      if (process.empty()) continue;
      process.push(statistics_);
      break;
    }
  }
}

// For faults, events and words, unless there is something to push.
void Pager::wait() {
  std::vector<pollfd> polled;
  if (!criu_.valid()) {
    polled.push_back({listener_.get(), POLLIN, 0});
    polled.push_back({dvsd_, POLLIN, 0});
  } else if (!restored_) {
    polled.push_back({criu_.get(), POLLIN, 0});
  }
  const size_t others = polled.size();
  for (const PagedProcess& process : processes_) polled.push_back({process.uffd(), POLLIN, 0});
  if (::poll(polled.data(), polled.size(), restored_ ? 0 : -1) <= 0) return;
  size_t next = others;
  for (auto process = processes_.begin(); next < polled.size(); ++process, ++next) {
    if (polled[next].revents != 0) hear_process(*process);
  }
  if (others > 0 && polled[0].revents != 0) {
    if (criu_.valid()) return hear_criu();
    criu_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  } else if (others > 1 && polled[1].revents != 0) {
    unwanted_ = true;  // dvsd says nothing: its end was closed
  }
}

void Pager::hear_criu() {
  int32_t word = 0;
  if (!receive_word(criu_.get(), word) || static_cast<uint32_t>(word) == kRestoreFinished) {
    restored_ = true;
    return;
  }
  if (word < 0) return;  // of a zombie
  UniqueFd uffd = receive_descriptor(criu_.get());
  if (!uffd.valid()) std::abort();
  add_process(word, std::move(uffd));
}

void Pager::add_process(pid_t pid, UniqueFd uffd) {
  keep_(uffd.get());
  auto stored = mover::open_stored(mover::kStoreName, pid);
  if (!stored.ok()) std::abort();
  mover::PageView view;
  for (const mover::PageRange& range : stored->pages) view.add({range, range.start});
  processes_.emplace_back(std::move(uffd), std::make_shared<UniqueFd>(std::move(stored->file)),
                          std::move(view));
}

void Pager::hear_process(PagedProcess& process) {
  uffd_msg message{};
  while (::read(process.uffd(), &message, sizeof message) == sizeof message) {
    switch (message.event) {
      case UFFD_EVENT_PAGEFAULT:
        process.serve(message.arg.pagefault.address, statistics_);
        break;
      case UFFD_EVENT_REMOVE:
      case UFFD_EVENT_UNMAP:
        process.on_gone(message.arg.remove.start, message.arg.remove.end);
        break;
      case UFFD_EVENT_REMAP:
        process.on_moved(message.arg.remap.from, message.arg.remap.to, message.arg.remap.len);
        break;
      case UFFD_EVENT_FORK: {
        UniqueFd uffd(static_cast<int>(message.arg.fork.ufd));
        keep_(uffd.get());
        processes_.push_back(process.forked(std::move(uffd)));
        break;
      }
      default:
        break;
    }
  }
}

}  // namespace dvs::helper
