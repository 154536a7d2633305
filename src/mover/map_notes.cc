#include "mover/map_notes.h"

#include <cstdlib>

#include "base/file.h"

namespace dvs::mover {
namespace {

constexpr std::string_view kFlags = "VmFlags:";

// "7f1234000-7f1235000 rw-p ...", and not "Rss: ...".
bool is_mapping(std::string_view line) {
  const size_t dash = line.find_first_not_of("0123456789abcdef");
  return dash != std::string_view::npos && dash > 0 && line[dash] == '-';
}

std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::string proc_file(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

Result<std::string> read_whole(pid_t pid, const char* name) {
  auto text = read_file(proc_file(pid, name));
  if (text.ok() && !text->empty()) return text;
  return Error(Code::kNotFound, "process " + std::to_string(pid) + " has ended");
}

uint64_t number_after(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  return at == std::string_view::npos
             ? 0
             : std::strtoull(std::string(text.substr(at + key.size(), 32)).c_str(), nullptr, 10);
}

}  // namespace

MapNotes::MapNotes(std::string_view smaps) {
  std::string_view mapping;
  uint64_t size_kib = 0;
  while (!smaps.empty()) {
    const std::string_view line = next_line(smaps);
    if (is_mapping(line)) {
      mapping = line;
    } else if (line.starts_with("Size:")) {
      size_kib = number_after(line, "Size:");
    } else if (line.starts_with(kFlags)) {
      flags_[std::string(mapping)] = line;
      if (line.find(" lo ") != std::string_view::npos) locked_kib_ += size_kib;
    }
  }
}

Result<MapNotes> MapNotes::take(pid_t pid) {
  DVS_ASSIGN(const std::string smaps, read_whole(pid, "smaps"));
  return MapNotes(smaps);
}

std::string MapNotes::annotate(std::string_view maps) const {
  std::string smaps;
  while (!maps.empty()) {
    const std::string line(next_line(maps));
    const auto flags = flags_.find(line);
    if (flags == flags_.end()) return {};
    smaps += line + "\n" + flags->second + "\n";
  }
  return smaps;
}

Result<std::string> read_smaps(pid_t pid, const MapNotes* notes) {
  if (notes != nullptr) {
    DVS_ASSIGN(const std::string maps, read_whole(pid, "maps"));
    DVS_ASSIGN(const std::string status, read_whole(pid, "status"));
    if (number_after(status, "VmLck:") == notes->locked_kib()) {
      std::string smaps = notes->annotate(maps);
      if (!smaps.empty()) return smaps;
    }
  }
  return read_whole(pid, "smaps");
}

}  // namespace dvs::mover
