// Pipes, POSIX message queues, and eventfds with shared memory: one server, one client.
#include <fcntl.h>
#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "ipc/die.h"
#include "ipc/stream.h"
#include "ipc/unix.h"

namespace dvs::bench {
namespace {

using Ready = std::function<void(const std::string&)>;

// ---- pipe: named ones, so that the two need no common parent -----------------------------------

UniqueFd open_fifo(const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  require(fd.valid(), "cannot open " + path);
  return fd;
}

void serve_pipe(const Plan& plan, const Ready& ready) {
  const std::string in = plan.address + ".in";
  const std::string out = plan.address + ".out";
  require(::mkfifo(in.c_str(), 0600) == 0 && ::mkfifo(out.c_str(), 0600) == 0, "mkfifo " + in);
  ready(plan.address);
  const UniqueFd requests = open_fifo(in, O_RDONLY);
  const UniqueFd answers = open_fifo(out, O_WRONLY);
  constexpr int kLargest = 1 << 20;  // what anybody may ask for; copies gain by it
  if (plan.pattern == Pattern::kCopy) ::fcntl(answers.get(), F_SETPIPE_SZ, kLargest);
  serve_stream(requests.get(), answers.get(), plan);
}

std::unique_ptr<Client> connect_pipe(const Plan& plan) {
  UniqueFd out = open_fifo(plan.address + ".in", O_WRONLY);
  UniqueFd in = open_fifo(plan.address + ".out", O_RDONLY);
  return std::make_unique<StreamClient>(std::move(out), std::move(in));
}

// ---- POSIX message queue: in an IPC namespace of the measurement, which ends with it -----------

// The names of the two queues: "/dvs-bench.FILE.in" for the address ".../FILE".
std::string queue_name(const Plan& plan, const char* direction) {
  std::string name = plan.address;
  std::replace(name.begin(), name.end(), '/', '.');
  return "/dvs-bench" + name + direction;
}

mqd_t open_queue(const std::string& name, int flags) {
  mq_attr attributes{};
  attributes.mq_maxmsg = 10;
  attributes.mq_msgsize = sizeof(Message);
  const mqd_t queue = ::mq_open(name.c_str(), flags | O_CLOEXEC, 0600, &attributes);
  require(queue >= 0, "mq_open " + name);
  return queue;
}

void put_message(mqd_t queue, const Message& m) {
  require(::mq_send(queue, m.data(), m.size(), 0) == 0, "mq_send");
}
void take_message(mqd_t queue, Message& m) {
  require(::mq_receive(queue, m.data(), m.size(), nullptr) == sizeof m, "mq_receive");
}

void serve_queue(const Plan& plan, const Ready& ready) {
  const mqd_t in = open_queue(queue_name(plan, ".in"), O_RDONLY | O_CREAT);
  const mqd_t out = open_queue(queue_name(plan, ".out"), O_WRONLY | O_CREAT);
  ready(plan.address);
  for (;;) {
    Message m;
    take_message(in, m);
    if (plan.pattern == Pattern::kCall) put_message(out, m);
  }
}

class QueueClient : public Client {
 public:
  explicit QueueClient(const Plan& plan)
      : out_(open_queue(queue_name(plan, ".in"), O_WRONLY)),
        in_(open_queue(queue_name(plan, ".out"), O_RDONLY)) {}
  void call(Message& m) override {
    put_message(out_, m);
    take_message(in_, m);
  }
  void send(const Message& m) override { put_message(out_, m); }

 private:
  mqd_t out_;
  mqd_t in_;
};

std::unique_ptr<Client> connect_queue(const Plan& plan) {
  return std::make_unique<QueueClient>(plan);
}

// ---- eventfd: two of them say that there is something in the shared memory ----------------------

struct Shared {
  Message request;
  alignas(64) Message answer;
};

Shared* map_shared(int memory) {
  void* page = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  require(page != MAP_FAILED, "cannot map");
  return static_cast<Shared*>(page);
}

void ring(int event) {
  const uint64_t one = 1;
  require(::write(event, &one, sizeof one) == sizeof one, "cannot write an eventfd");
}
void await_ring(int event) {
  uint64_t count = 0;
  require(::read(event, &count, sizeof count) == sizeof count, "cannot read an eventfd");
}

void serve_eventfd(const Plan& plan, const Ready& ready) {
  const UniqueFd listener = listen_unix(SOCK_STREAM, plan.address);
  ready(plan.address);
  const UniqueFd client = accept_one(listener.get());
  const int fds[] = {::eventfd(0, EFD_CLOEXEC), ::eventfd(0, EFD_CLOEXEC),
                     ::memfd_create("bench", MFD_CLOEXEC)};
  require(fds[0] >= 0 && fds[1] >= 0 && ::ftruncate(fds[2], sizeof(Shared)) == 0, "eventfd");
  Shared* shared = map_shared(fds[2]);
  send_fds(client.get(), fds, 3);
  for (;;) {
    await_ring(fds[0]);
    if (plan.pattern != Pattern::kCall) continue;
    shared->answer = shared->request;
    ring(fds[1]);
  }
}

class EventfdClient : public Client {
 public:
  explicit EventfdClient(const Plan& plan) {
    const UniqueFd server = connect_unix(SOCK_STREAM, plan.address);
    receive_fds(server.get(), fds_, 3);
    shared_ = map_shared(fds_[2]);
  }
  void call(Message& m) override {
    shared_->request = m;
    ring(fds_[0]);
    await_ring(fds_[1]);
    m = shared_->answer;
  }
  void notify() override { ring(fds_[0]); }

 private:
  int fds_[3] = {};
  Shared* shared_ = nullptr;
};

std::unique_ptr<Client> connect_eventfd(const Plan& plan) {
  return std::make_unique<EventfdClient>(plan);
}

}  // namespace

const Transport kPipe{"pipe", serve_pipe, connect_pipe};
const Transport kMessageQueue{"mq", serve_queue, connect_queue};
const Transport kEventfd{"eventfd", serve_eventfd, connect_eventfd};

}  // namespace dvs::bench
