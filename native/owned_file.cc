#include "owned_file.h"

#include "files.h"
#include "shared_memory.h"

namespace iospace {

void OwnedFile::Define(Napi::Object exports) {
  exports.Set("OwnedFile", DefineClass(exports.Env(), "OwnedFile",
                                       {
                                           InstanceMethod<&OwnedFile::Open<OpenFile>>("open"),
                                           InstanceMethod<&OwnedFile::Open<DuplicateFile>>("duplicate"),
                                           InstanceMethod<&OwnedFile::Open<OpenObject>>("shmOpen"),
                                           InstanceMethod<&OwnedFile::Open<CreateMemfd>>("memfdCreate"),
                                           InstanceMethod<&OwnedFile::Open<CreateEventfd>>("eventfd"),
                                           InstanceMethod<&OwnedFile::Close>("close"),
                                       }));
}

OwnedFile::OwnedFile(const Napi::CallbackInfo& info) : ObjectWrap(info) {}

template <FileDescriptor (*kOpen)(const Napi::CallbackInfo&)>
Napi::Value OwnedFile::Open(const Napi::CallbackInfo& info) {
  file_ = kOpen(info);
  return Napi::Number::New(info.Env(), file_.get());
}

void OwnedFile::Close(const Napi::CallbackInfo&) {
  file_ = FileDescriptor();
}

}  // namespace iospace
