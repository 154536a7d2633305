#include "migrate/transfer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "migrate/memory_frames.h"
#include "wire/codec.h"

namespace dvs {
namespace {

constexpr uint8_t kManifest = 1;
constexpr uint8_t kChunk = 2;
constexpr uint8_t kEnd = 3;
constexpr size_t kChunkBytes = 64 * 1024;
constexpr size_t kMaxPieces = 10'000;

std::string begin_body(wire::Writer& out, uint8_t part, const std::string& id) {
  out.put(part);
  out.put_string(id);
  return {};
}

std::string json_body(uint8_t part, const std::string& id, const Json& json) {
  wire::Writer out;
  begin_body(out, part, id);
  out.put_string(to_text(json));
  return out.take();
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() < 200 && name != "." && name != ".." &&
         name.find('/') == std::string::npos;
}

Error out_of_order() { return Error(Code::kCorrupt, "the images arrive in an impossible order"); }

}  // namespace

TransferSender::TransferSender(std::string id, std::vector<Piece> pieces, Json header)
    : id_(std::move(id)), pieces_(std::move(pieces)), header_(std::move(header)) {
  header_["pieces"] = Json::array();
  for (Piece& piece : pieces_) {
    if (piece.path.empty()) piece.size = piece.bytes.size();
    total_ += piece.size;
    header_["pieces"].push_back({{"name", piece.name}, {"size", piece.size}});
  }
}

Result<std::string> TransferSender::next_chunk() {
  const Piece& piece = pieces_[piece_];
  const auto size = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, piece.size - offset_));
  if (piece.path.empty()) return piece.bytes.substr(offset_, size);
  if (!file_.valid()) {
    file_.reset(::open(piece.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file_.valid()) return errno_error("cannot open " + piece.path);
  }
  std::string bytes(size, '\0');
  const ssize_t n = ::pread(file_.get(), bytes.data(), size, static_cast<off_t>(offset_));
  if (n < 0) return errno_error("cannot read " + piece.path);
  if (static_cast<size_t>(n) != size) return Error(Code::kInternal, piece.path + " has shrunk");
  return bytes;
}

Status TransferSender::pump(const std::function<bool(std::string_view)>& send,
                            const std::function<bool()>& congested,
                            const std::function<Json()>& footer) {
  const Error down(Code::kUnavailable, "the link to the target is down");
  if (!begun_) {
    if (!send(json_body(kManifest, id_, header_))) return down;
    begun_ = true;
  }
  while (piece_ < pieces_.size()) {
    if (offset_ == pieces_[piece_].size) {
      ++piece_;
      offset_ = 0;
      file_.reset();
      continue;
    }
    if (congested()) return {};
    DVS_ASSIGN(std::string bytes, next_chunk());
    wire::Writer out;
    begin_body(out, kChunk, id_);
    out.put(static_cast<uint32_t>(piece_));
    out.put(offset_);
    out.put_bytes(bytes);
    if (!send(out.take())) return down;
    offset_ += bytes.size();
    sent_ += bytes.size();
  }
  if (!finished_) {
    if (!send(json_body(kEnd, id_, footer()))) return down;
    finished_ = true;
  }
  return {};
}

Result<std::string> transfer_id(std::string_view body) {
  wire::Reader in(body);
  in.get<uint8_t>();
  std::string id(in.get_string());
  if (!in.ok() || !is_plain_name(id)) return Error(Code::kCorrupt, "an image frame without a name");
  return id;
}

Status TransferReceiver::take(std::string_view body) {
  if (is_memory(body)) return take_memory(body);
  wire::Reader in(body);
  const auto part = in.get<uint8_t>();
  in.get_string();
  if (part == kChunk) {
    const auto piece = in.get<uint32_t>();
    const auto offset = in.get<uint64_t>();
    if (!in.ok()) return out_of_order();
    return take_chunk(piece, offset, in.rest());
  }
  const auto text = in.get_string();
  if (!in.done() || ended_) return out_of_order();
  if (part == kManifest) return take_manifest(text);
  if (part != kEnd || !begun_) return out_of_order();
  for (const Incoming& incoming : pieces_) {
    if (incoming.received != incoming.size) return out_of_order();
  }
  DVS_ASSIGN(footer_, parse_json(text));
  if (memory_) DVS_TRY(memory_->seal());
  pieces_.clear();
  ended_ = true;
  return {};
}

Status TransferReceiver::take_memory(std::string_view body) {
  if (ended_) return out_of_order();
  if (!memory_) {
    DVS_TRY(make_dirs(directory_));
    DVS_ASSIGN(memory_, mover::Store::open(directory_ + "/" + mover::kStoreName));
  }
  std::string storage;
  DVS_ASSIGN(const MemoryFrame arrived, decode_memory(body));
  DVS_ASSIGN(const MemoryFrame frame, unpacked(arrived, storage));
  switch (frame.part) {
    case MemoryPart::kPages:
      received_ += frame.bytes.size();
      return memory_->write(frame.pid, frame.pages.start, frame.bytes);
    case MemoryPart::kDrop:
      return memory_->drop(frame.pid, frame.pages);
    case MemoryPart::kOwe: {
      DVS_ASSIGN(const mover::PageRanges ranges, decode_ranges(frame.bytes));
      for (const mover::PageRange& range : ranges) DVS_TRY(memory_->owe(frame.pid, range));
      return {};
    }
    default:
      return out_of_order();
  }
}

Status TransferReceiver::take_manifest(std::string_view text) {
  if (begun_) return out_of_order();
  DVS_ASSIGN(header_, parse_json(text));
  DVS_ASSIGN(auto pieces, json_get<std::vector<Json>>(header_, "pieces"));
  if (pieces.size() > kMaxPieces) return Error(Code::kCorrupt, "too many images");
  DVS_TRY(make_dirs(directory_));
  for (const Json& piece : pieces) {
    DVS_ASSIGN(std::string name, json_get<std::string>(piece, "name"));
    DVS_ASSIGN(uint64_t size, json_get<uint64_t>(piece, "size"));
    if (!is_plain_name(name)) return Error(Code::kCorrupt, "an image with an impossible name");
    const std::string path = directory_ + "/" + name;
    Incoming incoming;
    incoming.size = size;
    incoming.file.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!incoming.file.valid()) return errno_error("cannot create " + path);
    pieces_.push_back(std::move(incoming));
  }
  begun_ = true;
  return {};
}

Status TransferReceiver::take_chunk(uint32_t piece, uint64_t offset, std::string_view bytes) {
  if (!begun_ || piece >= pieces_.size()) return out_of_order();
  Incoming& incoming = pieces_[piece];
  if (offset != incoming.received || bytes.size() > incoming.size - offset) return out_of_order();
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(incoming.file.get(), bytes.data(), bytes.size(),
                               static_cast<off_t>(incoming.received));
    if (n < 0) return errno_error("cannot store the images");
    bytes.remove_prefix(static_cast<size_t>(n));
    incoming.received += static_cast<uint64_t>(n);
    received_ += static_cast<uint64_t>(n);
  }
  if (incoming.received == incoming.size) incoming.file.reset();
  return {};
}

}  // namespace dvs
