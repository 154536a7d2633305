#include "pager.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "base/clock.h"
#include "mover/store.h"

namespace dvs::helper {
namespace {

using mover::kPageSize;
using mover::PageRange;
using mover::PagerVerb;
using mover::PagerWord;

constexpr uint32_t kRestoreFinished = 0x52535446;
// Asked for ahead: what keeps a link busy, and does not keep a fault waiting behind it for long.
constexpr uint64_t kWindow = 512 << 10;
constexpr int kLookEveryMs = 500;
constexpr int64_t kHeadStartNs = 5'000'000;
constexpr size_t kMostTimes = 1 << 20;

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
  return restored_ && std::none_of(processes_.begin(), processes_.end(), [](const auto& each) {
           return each.has_something_here() || each.is_owed();
         });
}

bool Pager::run() {
  say(PagerVerb::kReady, 0, {});
  while (!done()) {
    wait();
    look_after_processes();
    if (!may_push()) continue;
    ask_ahead();
    for (PagedProcess& process : processes_) {
      if (!process.has_something_here()) continue;
      process.push(statistics_);
      break;
    }
  }
  return !unwanted_;
}

// What criu is restoring, or the processes' first steps, are not to be slowed down.
bool Pager::may_push() const { return restored_ && monotonic_ns() >= push_from_ns_; }

int Pager::timeout_ms() const {
  const bool something =
      restored_ && std::any_of(processes_.begin(), processes_.end(),
                               [](const auto& each) { return each.has_something_here(); });
  if (restored_ && !may_push()) return 1;
  if (something) return 0;
  return wanted_bytes_ > 0 ? kLookEveryMs : -1;
}

// For faults, events and words, unless there is something to push.
void Pager::wait() {
  std::vector<pollfd> polled;
  for (const PagedProcess& process : processes_) polled.push_back({process.uffd(), POLLIN, 0});
  const size_t others = polled.size();
  const int criu = !criu_.valid() ? sockets_.criu.get() : restored_ ? -1 : criu_.get();
  polled.push_back({criu, POLLIN, 0});  // negative: not looked at
  polled.push_back({sockets_.dvsd.valid() ? sockets_.dvsd.get() : -1, POLLIN, 0});
  polled.push_back({sockets_.other_dvsd.get(), POLLIN, 0});
  if (::poll(polled.data(), polled.size(), timeout_ms()) <= 0) return;
  auto process = processes_.begin();
  for (size_t i = 0; i < others; ++i, ++process) {
    if (polled[i].revents != 0) hear_process(*process);
  }
  if (polled[others + 1].revents != 0) hear_dvsd();
  if (polled[others + 2].revents != 0) take_new_dvsd();
  if (polled[others].revents == 0) return;
  if (criu_.valid()) return hear_criu();
  criu_.reset(::accept4(sockets_.criu.get(), nullptr, nullptr, SOCK_CLOEXEC));
}

// ---- criu ----

void Pager::hear_criu() {
  int32_t word = 0;
  if (!receive_word(criu_.get(), word) || static_cast<uint32_t>(word) == kRestoreFinished) {
    restored_ = true;
    push_from_ns_ = monotonic_ns() + kHeadStartNs;
    return;
  }
  if (word < 0) return;  // of a zombie
  UniqueFd uffd = receive_descriptor(criu_.get());
  if (!uffd.valid()) fail("the restore did not hand over a process");
  add_process(word, std::move(uffd));
}

void Pager::add_process(pid_t pid, UniqueFd uffd) {
  keep_(uffd.get());
  auto memory = mover::open_stored(mover::kStoreName, pid);
  if (!memory.ok()) fail(memory.error().message());
  mover::PageView here;
  mover::PageView owed;
  for (const PageRange& range : memory->pages) here.add({range, range.start});
  for (const PageRange& range : memory->owed) owed.add({range, range.start});
  processes_.emplace_back(std::move(uffd), std::make_shared<Stored>(pid, std::move(*memory)),
                          std::move(here), std::move(owed));
}

// ---- the processes ----

void Pager::hear_process(PagedProcess& process) {
  uffd_msg message{};
  while (::read(process.uffd(), &message, sizeof message) == sizeof message) {
    switch (message.event) {
      case UFFD_EVENT_PAGEFAULT:
        on_fault(process, message.arg.pagefault.address);
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

void Pager::on_fault(PagedProcess& process, uint64_t address) {
  const int64_t began_ns = monotonic_ns();
  const uint64_t waited_for = statistics_.owed_faults;
  const auto pages = process.serve(address, statistics_);
  if (pages) want(*process.stored(), *pages, true);
  if (statistics_.owed_faults == waited_for) answered(monotonic_ns() - began_ns);
}

void Pager::answered(int64_t ns) {
  if (statistics_.fault_ns.size() < kMostTimes) statistics_.fault_ns.push_back(ns);
}

// Who has ended is owed nothing; who waits for too long will wait for ever.
void Pager::look_after_processes() {
  if (wanted_bytes_ == 0) return;
  const int64_t silent_ns = monotonic_ns() - heard_ns_;
  if (silent_ns < kLookEveryMs * 1'000'000LL) return;
  for (PagedProcess& process : processes_) process.look();
  const bool owed = std::any_of(processes_.begin(), processes_.end(),
                                [](const auto& each) { return each.is_owed(); });
  if (!owed || silent_ns < patience_.count() * 1'000'000) return;
  fail("no page came for " + std::to_string(patience_.count()) + " ms");
}

// ---- dvsd ----

void Pager::say(PagerVerb verb, pid_t pid, PageRange pages) {
  const PagerWord word{verb, pid, pages};
  if (!sockets_.dvsd.valid()) return;  // the next dvsd is told
  ::send(sockets_.dvsd.get(), &word, sizeof word, MSG_NOSIGNAL);
}

void Pager::want(Stored& stored, PageRange pages, bool urgent) {
  if (wanted_bytes_ == 0) heard_ns_ = monotonic_ns();
  if (!stored.wanted.contains(pages.start)) wanted_bytes_ += pages.size();
  stored.wanted.add(pages);
  say(urgent ? PagerVerb::kWant : PagerVerb::kWantLater, stored.pid, pages);
}

void Pager::ask_ahead() {
  for (PagedProcess& process : processes_) {
    while (wanted_bytes_ < kWindow && process.is_owed()) {
      const auto pages = process.next_owed();
      if (!pages) break;
      want(*process.stored(), *pages, false);
    }
  }
}

void Pager::hear_dvsd() {
  char packet[mover::kLongestWord] = {};
  const ssize_t size = ::recv(sockets_.dvsd.get(), packet, sizeof packet, 0);
  if (size < static_cast<ssize_t>(sizeof(PagerWord))) {
    sockets_.dvsd.reset();
    unwanted_ = !criu_.valid();
    return;
  }
  PagerWord word;
  std::memcpy(&word, packet, sizeof word);
  switch (word.verb) {
    case PagerVerb::kStored:
      return arrived(word.pid, word.pages, false);
    case PagerVerb::kZeros:
      return arrived(word.pid, word.pages, true);
    case PagerVerb::kGone:
      fail({packet + sizeof word, static_cast<size_t>(size) - sizeof word});
    default:
      return;
  }
}

void Pager::arrived(pid_t pid, PageRange pages, bool zeros) {
  heard_ns_ = monotonic_ns();
  std::set<Stored*> told;
  for (PagedProcess& process : processes_) {
    Stored& stored = *process.stored();
    if (stored.pid != pid) continue;
    if (zeros) {
      process.on_zeros(pages);
    } else {
      process.on_stored(pages, statistics_);
    }
    if (!told.insert(&stored).second) continue;
    for (uint64_t page = pages.start; page < pages.end; page += kPageSize) {
      if (stored.wanted.contains(page)) wanted_bytes_ -= kPageSize;
    }
    stored.wanted.remove(pages);
  }
  const int64_t now = monotonic_ns();
  for (Stored* stored : told) {
    auto waiting = stored->waiting_ns.lower_bound(pages.start);
    while (waiting != stored->waiting_ns.end() && waiting->first < pages.end) {
      answered(now - waiting->second);
      waiting = stored->waiting_ns.erase(waiting);
    }
  }
}

// It knows nothing of what the last one was asked.
void Pager::take_new_dvsd() {
  sockets_.dvsd.reset(::accept4(sockets_.other_dvsd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  std::set<Stored*> told;
  for (PagedProcess& process : processes_) {
    Stored& stored = *process.stored();
    if (!told.insert(&stored).second) continue;
    for (const PageRange& pages : stored.wanted.ranges()) {
      for (uint64_t start = pages.start; start < pages.end; start += kWindow) {
        say(PagerVerb::kWant, stored.pid, {start, std::min(pages.end, start + kWindow)});
      }
    }
  }
}

}  // namespace dvs::helper
