// vandal SEED: writes whatever comes to its mind into its DC's region, for ever.
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <random>

#include "common.h"
#include "dvk/layout.h"

namespace {

using namespace dvs::dvk;  // NOLINT(google-build-using-namespace)

class Vandal {
 public:
  Vandal(std::byte* region, size_t size, uint64_t seed) : region_(region), size_(size), rng_(seed) {
    slots_ = reinterpret_cast<RegionHeader*>(region)->slots;
    descriptors_ = reinterpret_cast<Descriptor*>(region + (sizeof(RegionHeader) + 63) / 64 * 64);
  }

  void once() {
    for (int i = 0; i < 50; ++i) word(rng_() % (size_ / 8)).store(rng_());
    for (int i = 0; i < 10; ++i) lie(descriptors_[rng_() % slots_]);
    ask();
    auto& header = *reinterpret_cast<RegionHeader*>(region_);
    header.copy_chunk = static_cast<uint32_t>(rng_() % 3);
    header.max_copy_bytes = UINT32_MAX;
    header.doorbell.fetch_add(2);
    futex(header.doorbell);
  }

 private:
  std::atomic<uint64_t>& word(size_t index) {
    return reinterpret_cast<std::atomic<uint64_t>*>(region_)[index];
  }
  static void futex(std::atomic<uint32_t>& at) {
    syscall(SYS_futex, &at, FUTEX_WAKE, 100, nullptr, nullptr, 0);
  }
  // An operation that looks as if it were to be carried out.
  void lie(Descriptor& d) {
    d.kind.store(static_cast<uint32_t>(rng_() % 5));
    d.node.store(static_cast<uint32_t>(rng_() % 4));
    d.tx_kind.store(static_cast<uint32_t>(rng_() % 6));
    d.tx_peer.store(static_cast<int32_t>(rng_() % slots_) - 35);
    d.copy_source.store(static_cast<int32_t>(rng_() % slots_) - 35);
    d.copy_target.store(static_cast<int32_t>(rng_() % slots_) - 35);
    d.copy_bytes.store(rng_());
    d.rx.store(RxWord{static_cast<RxPhase>(rng_() % 5), static_cast<RxMode>(rng_() % 3),
                      static_cast<uint16_t>(rng_()), static_cast<uint16_t>(rng_()), 1}
                   .pack());
    d.tx.store(TxWord{static_cast<TxPhase>(rng_() % 5), 0, rng_() % 8}.pack());
  }
  // Requests to dvsd that make no sense.
  void ask() {
    auto& header = *reinterpret_cast<RegionHeader*>(region_);
    ControlSlot& slot = header.control[rng_() % kControlSlots];
    slot.op.store(static_cast<uint32_t>(rng_() % 5));
    slot.command.store(static_cast<int32_t>(rng_() % 6));
    slot.pid.store(rng_() % 2 == 0 ? getpid() : static_cast<int32_t>(rng_()));
    slot.endpoint.store(static_cast<int32_t>(rng_() % 4 != 0 ? rng_() % slots_ : rng_()));
    slot.node.store(static_cast<int32_t>(rng_() % 5));
    for (auto& word : slot.name.words) word.store(rng_());
    slot.ticket.fetch_add(1);
    slot.phase.store(static_cast<uint32_t>(ControlPhase::kPosted));
  }

  std::byte* region_;
  size_t size_;
  uint32_t slots_ = 0;
  Descriptor* descriptors_ = nullptr;
  std::mt19937_64 rng_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  dvs::programs::lines();
  const int fd = open("/run/dvs/dc/region", O_RDWR);
  struct stat info {};
  if (fd < 0 || fstat(fd, &info) != 0) return 1;
  const auto size = static_cast<size_t>(info.st_size);
  void* region = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (region == MAP_FAILED) return 1;
  Vandal vandal(static_cast<std::byte*>(region), size, strtoull(argv[1], nullptr, 10));
  printf("at work\n");
  for (;;) {
    vandal.once();
    usleep(200);
  }
}
