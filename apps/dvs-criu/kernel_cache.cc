#include "kernel_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "base/unique_fd.h"

namespace dvs::helper {
namespace {

constexpr const char* kFile = "/run/criu.kdat";

// The beginning of struct kerndat_s, the same in each release since 3.0.
struct KernelData {
  uint32_t magic[2];
  uint64_t shmem_device;
  int32_t last_capability;
  uint64_t zero_page;
  uint8_t has_dirty_track;
  uint8_t has_memfd;
};

}  // namespace

bool claim_write_tracking() {
  const UniqueFd file(::open(kFile, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  KernelData data{};
  if (!file.valid() || ::pread(file.get(), &data, sizeof data, 0) != sizeof data) return false;
  // A kernel that this runs on has had memfd for long: so the fields are where we think they are.
  if (data.has_dirty_track > 1 || data.has_memfd != 1) return false;
  const uint8_t yes = 1;
  const off_t at = offsetof(KernelData, has_dirty_track);
  return ::pwrite(file.get(), &yes, sizeof yes, at) == sizeof yes;
}

}  // namespace dvs::helper
