/// The JavaScript object over a descriptor, which it owns from the call that opens it on: until close(), its
/// collection or the end of the environment.
///
/// A worker can be terminated between any two native calls. A descriptor that one of them gave as a number
/// would stay open then, and what it keeps would stay with it, as long as the process lasts.
#pragma once

#include <napi.h>

#include "syscall.h"

namespace iospace {

class OwnedFile : public Napi::ObjectWrap<OwnedFile> {
 public:
  static void Define(Napi::Object exports);

  /// new OwnedFile(): of nothing yet
  explicit OwnedFile(const Napi::CallbackInfo& info);

 private:
  /// Opens a file in the place of the one that there is. Returns its descriptor.
  template <FileDescriptor (*kOpen)(const Napi::CallbackInfo&)>
  Napi::Value Open(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor file_;
};

}  // namespace iospace
