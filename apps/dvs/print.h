// How facts are printed: tables for people, JSON for programs. What comes from dvsd is checked:
// a missing or odd value prints as "-", control characters never reach the terminal.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace dvs::cli {

// One line on stdout.
void print_json(const Json& json);

// Replaces control characters by '?'.
std::string printable(const std::string& text);

// A member of an object as text: strings, numbers, lists of them with commas; else "-".
std::string cell(const Json& object, const char* key);

// The member when it is a list, else an empty list.
const Json& list_of(const Json& object, const char* key);

// "dvs: " is not put in front; milliseconds with one decimal, "-" when missing.
std::string milliseconds(const Json& object, const char* key);
std::string bytes(double count);                              // "2.5 MiB"
std::string local_time(const Json& object, const char* key);  // of nanoseconds since 1970

struct Column {
  const char* title;
  const char* key;  // of the row's object
};
// Aligned columns with a title line; `nothing` instead when there are no rows.
void print_table(const Json& rows, const std::vector<Column>& columns, const char* nothing);

// Titles and values in two columns.
void print_facts(const Json& object, const std::vector<Column>& facts);

}  // namespace dvs::cli
