#include "print.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

namespace dvs::cli {
namespace {

std::string text_of(const Json& value) {
  if (value.is_string()) {
    const std::string text = printable(value.get<std::string>());
    return text.empty() ? "-" : text;
  }
  if (value.is_number_float()) return fmt::format("{:.1f}", value.get<double>());
  if (value.is_number() || value.is_boolean()) return to_text(value);
  if (!value.is_array() || value.empty()) return "-";
  std::string list;
  for (const auto& item : value) list += (list.empty() ? "" : ",") + text_of(item);
  return list;
}

// Characters, not bytes, as far as UTF-8 goes.
size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

void print_row(const std::vector<std::string>& cells, const std::vector<size_t>& widths) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    line += cells[i];
    if (i + 1 < cells.size()) line.append(widths[i] - width(cells[i]) + 2, ' ');
  }
  std::printf("%s\n", line.c_str());
}

}  // namespace

void print_json(const Json& json) {
  std::printf("%s\n", to_text(json).c_str());
  std::fflush(stdout);
}

std::string printable(const std::string& text) {
  std::string out = text;
  std::replace_if(
      out.begin(), out.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return out;
}

std::string cell(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return "-";
  return text_of(object.at(key));
}

const Json& list_of(const Json& object, const char* key) {
  static const Json kEmpty = Json::array();
  if (!object.is_object() || !object.contains(key) || !object.at(key).is_array()) return kEmpty;
  return object.at(key);
}

std::string milliseconds(const Json& object, const char* key) {
  const auto value = json_get<double>(object, key);
  return value.ok() ? fmt::format("{:.1f} ms", *value) : "-";
}

std::string bytes(double count) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; count >= 1024 && unit + 1 < std::size(kUnits); ++unit) count /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", count) : fmt::format("{:.1f} {}", count, kUnits[unit]);
}

std::string local_time(const Json& object, const char* key) {
  const auto ns = json_get<int64_t>(object, key);
  if (!ns.ok() || *ns <= 0) return "-";
  const std::time_t seconds = *ns / 1'000'000'000;
  std::tm parts{};
  char text[32];
  if (::localtime_r(&seconds, &parts) == nullptr) return "-";
  return {text, std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts)};
}

void print_table(const Json& rows, const std::vector<Column>& columns, const char* nothing) {
  if (rows.empty()) {
    std::printf("%s\n", nothing);
    return;
  }
  std::vector<std::vector<std::string>> lines(1);
  for (const auto& column : columns) lines[0].emplace_back(column.title);
  for (const auto& row : rows) {
    auto& line = lines.emplace_back();
    for (const auto& column : columns) line.push_back(cell(row, column.key));
  }
  std::vector<size_t> widths(columns.size(), 0);
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width(line[i]));
  }
  for (const auto& line : lines) print_row(line, widths);
}

void print_facts(const Json& object, const std::vector<Column>& facts) {
  size_t longest = 0;
  for (const auto& fact : facts) longest = std::max(longest, width(fact.title));
  for (const auto& fact : facts) print_row({fact.title, cell(object, fact.key)}, {longest, 0});
}

}  // namespace dvs::cli
