#include "report.h"

#include <unistd.h>

namespace dvs::helper {

std::string error_line(const Error& error) {
  // Messages quote paths, which may hold any bytes.
  return to_text(Json{{"error", error_to_json(error)}});
}

void write_line(int fd, const std::string& line) {
  const std::string text = line + "\n";
  [[maybe_unused]] ssize_t n = ::write(fd, text.data(), text.size());
}

}  // namespace dvs::helper
