#include "mover/page_view.h"

#include <algorithm>
#include <iterator>

namespace dvs::mover {

void PageView::add(const Piece& piece) {
  pieces_[piece.range.start] = piece;
  moved_ |= piece.stored != piece.range.start;
}

void PageView::remove(PageRange range) {
  auto at = pieces_.upper_bound(range.start);
  if (at != pieces_.begin()) --at;
  while (at != pieces_.end() && at->second.range.start < range.end) {
    const Piece piece = at->second;
    if (piece.range.end <= range.start) {
      ++at;
      continue;
    }
    at = pieces_.erase(at);
    if (piece.range.start < range.start) {
      add({{piece.range.start, range.start}, piece.stored});
    }
    if (piece.range.end > range.end) {
      add({{range.end, piece.range.end}, piece.stored + (range.end - piece.range.start)});
    }
  }
}

void PageView::move(uint64_t from, uint64_t to, uint64_t length) {
  std::vector<Piece> moved;
  for (uint64_t at = from; at < from + length;) {
    auto next = pieces_.upper_bound(at);
    const auto here = find(at);
    if (!here && (next == pieces_.end() || next->first >= from + length)) break;
    const Piece piece = here ? *here : next->second;
    const uint64_t start = std::max(piece.range.start, at);
    const uint64_t end = std::min(piece.range.end, from + length);
    moved.push_back(
        {{start - from + to, end - from + to}, piece.stored + (start - piece.range.start)});
    at = end;
  }
  remove({from, from + length});
  remove({to, to + length});
  for (const Piece& piece : moved) add(piece);
}

std::optional<PageView::Piece> PageView::find(uint64_t page) const {
  auto after = pieces_.upper_bound(page);
  if (after == pieces_.begin()) return std::nullopt;
  const Piece& piece = std::prev(after)->second;
  return page < piece.range.end ? std::optional(piece) : std::nullopt;
}

std::optional<PageView::Piece> PageView::first() const {
  return pieces_.empty() ? std::nullopt : std::optional(pieces_.begin()->second);
}

std::optional<PageView::Piece> PageView::next(uint64_t page) const {
  if (const auto here = find(page)) {
    return Piece{{page, here->range.end}, here->stored + (page - here->range.start)};
  }
  const auto after = pieces_.lower_bound(page);
  return after == pieces_.end() ? std::nullopt : std::optional(after->second);
}

std::vector<PageView::Piece> PageView::take(PageRange stored) {
  std::vector<Piece> taken;
  const auto take_from = [&](const Piece& piece) {
    const uint64_t start = std::max(stored.start, piece.stored);
    const uint64_t end = std::min(stored.end, piece.stored + piece.range.size());
    if (start >= end) return;
    const uint64_t shift = piece.range.start - piece.stored;
    taken.push_back({{start + shift, end + shift}, start});
  };
  if (moved_) {
    for (const auto& [start, piece] : pieces_) take_from(piece);
  } else {
    for (auto piece = next(stored.start); piece && piece->range.start < stored.end;
         piece = next(piece->range.end)) {
      take_from(*piece);
    }
  }
  for (const Piece& piece : taken) remove(piece.range);
  return taken;
}

uint64_t PageView::size() const {
  uint64_t bytes = 0;
  for (const auto& [start, piece] : pieces_) bytes += piece.range.size();
  return bytes;
}

}  // namespace dvs::mover
