// Carries what a migration moves from the source to the target: named pieces, cut into frames of
// type kImage. Straight from one tmpfs (or memory) to the other; frames are checksummed.
//
//   body: u8 part, string migration id, then
//     kManifest  string JSON {"pieces": [{"name", "size"}], ...whatever else the target must know}
//     kChunk     u32 piece, u64 offset, bytes
//     kEnd       string JSON, what became known while sending
//     or a part of migrate/memory_frames.h, which comes before the end, also before the manifest.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/unique_fd.h"
#include "mover/store.h"

namespace dvs {

struct Piece {
  std::string name;  // of a file in the image directory, or one of the target's own names
  uint64_t size = 0;
  std::string bytes;  // in memory, or
  std::string path;   // in this file
};

class TransferSender {
 public:
  TransferSender(std::string id, std::vector<Piece> pieces, Json header);

  uint64_t total() const { return total_; }
  uint64_t sent() const { return sent_; }
  bool finished() const { return finished_; }

  // Sends frames through `send` until it is congested, refuses, or everything is out; call again
  // when the link is writable. `footer` is asked for the end's JSON. An Error: a piece cannot be
  // read, or the link is down.
  Status pump(const std::function<bool(std::string_view body)>& send,
              const std::function<bool()>& congested, const std::function<Json()>& footer);

 private:
  Result<std::string> next_chunk();

  std::string id_;
  std::vector<Piece> pieces_;
  Json header_;
  uint64_t total_ = 0;
  uint64_t sent_ = 0;
  bool begun_ = false;
  bool finished_ = false;
  size_t piece_ = 0;
  uint64_t offset_ = 0;
  UniqueFd file_;
};

// The migration a kImage frame belongs to. kCorrupt.
Result<std::string> transfer_id(std::string_view body);

class TransferReceiver {
 public:
  // Pieces go into files of this name in `directory` (made here).
  explicit TransferReceiver(std::string directory) : directory_(std::move(directory)) {}

  // Takes one frame. kCorrupt: it makes no sense here; kNoSpace: the tmpfs is full. After an Error
  // the transfer has failed.
  Status take(std::string_view body);

  bool complete() const { return ended_; }  // the end came, and every byte before it
  const Json& header() const { return header_; }
  const Json& footer() const { return footer_; }
  uint64_t received() const { return received_; }
  uint64_t owed_bytes() const { return memory_ ? memory_->owed_bytes() : 0; }

 private:
  Status take_manifest(std::string_view text);
  Status take_chunk(uint32_t piece, uint64_t offset, std::string_view bytes);
  Status take_memory(std::string_view body);

  struct Incoming {
    uint64_t size = 0;
    uint64_t received = 0;
    UniqueFd file;
  };
  std::string directory_;
  std::vector<Incoming> pieces_;
  Json header_;
  Json footer_;
  uint64_t received_ = 0;
  bool begun_ = false;
  bool ended_ = false;
  std::optional<mover::Store> memory_;
};

}  // namespace dvs
