/// Passing descriptors to another process, through a Unix socket.
///
/// A sender connects and sends one message: the byte of the protocol, with the descriptors. A receiver
/// answers with the same byte once it has them; a connection that ends without it has passed nothing. Nothing
/// here waits: what cannot be done yet is tried again when the descriptor `watched()` is readable.
#pragma once

#include <napi.h>

#include <string>

#include "syscall.h"

namespace iospace {

/// The file of a listening socket. Removed when the owner ends, unless somebody has put another in its place.
class SocketFile {
 public:
  SocketFile() = default;
  SocketFile(FileDescriptor directory, std::string name, const FileIdentity& identity)
      : directory_(std::move(directory)), name_(std::move(name)), identity_(identity) {}
  SocketFile(SocketFile&&) = default;
  SocketFile& operator=(SocketFile&& other) noexcept {
    directory_ = std::move(other.directory_);
    std::swap(name_, other.name_);
    std::swap(identity_, other.identity_);
    return *this;
  }
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  ~SocketFile();

 private:
  /// Held, because the path may mean another directory by then.
  FileDescriptor directory_;
  std::string name_;
  FileIdentity identity_ = {};
};

/// A socket that listens, and its file.
struct Listener {
  FileDescriptor socket;
  /// Ends first: as long as the socket listens nobody else replaces the file.
  SocketFile file;
};

class DescriptorReceiver : public Napi::ObjectWrap<DescriptorReceiver> {
 public:
  static void Define(Napi::Object exports);

  /// new DescriptorReceiver(path)
  explicit DescriptorReceiver(const Napi::CallbackInfo& info);

 private:
  Napi::Value Watched(const Napi::CallbackInfo& info);
  Napi::Value Receive(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  Listener listener_;
  /// The sender that was accepted last, if it has not left.
  FileDescriptor connection_;
};

class DescriptorSender : public Napi::ObjectWrap<DescriptorSender> {
 public:
  static void Define(Napi::Object exports);

  /// new DescriptorSender(path, fds)
  explicit DescriptorSender(const Napi::CallbackInfo& info);

 private:
  Napi::Value Watched(const Napi::CallbackInfo& info);
  Napi::Value IsAnswered(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor connection_;
};

}  // namespace iospace
