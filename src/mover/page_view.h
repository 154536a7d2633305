// What of a store's memory a process has not got yet, and where in its address space it belongs.
// At first each page belongs where it was; the process may move its mappings about.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "mover/page_range.h"

namespace dvs::mover {

class PageView {
 public:
  struct Piece {
    PageRange range;      // in the process
    uint64_t stored = 0;  // where the store has it
    bool operator==(const Piece&) const = default;
  };

  // REQUIRES: nothing of the range is in it.
  void add(const Piece& piece);
  // It has got these, or has dropped them.
  void remove(PageRange range);
  // mremap: what belonged to [from, from + length) belongs to [to, to + length). What belonged
  // there has gone.
  void move(uint64_t from, uint64_t to, uint64_t length);

  // The piece with this page, or nothing.
  std::optional<Piece> find(uint64_t page) const;
  std::optional<Piece> first() const;
  // The first piece with a page at or above `page`, without what is below it.
  std::optional<Piece> next(uint64_t page) const;
  // Takes out what the store has in `stored`: the pieces, wherever they belong.
  std::vector<Piece> take(PageRange stored);
  bool empty() const { return pieces_.empty(); }
  uint64_t size() const;  // bytes

 private:
  std::map<uint64_t, Piece> pieces_;  // by start
  bool moved_ = false;                // not all belong where they were
};

}  // namespace dvs::mover
