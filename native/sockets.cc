#include "sockets.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>

#include "arguments.h"
#include "error.h"

namespace iospace {
namespace {

/// The whole of a message, and of its answer.
constexpr std::array<std::byte, 1> kProtocol = {std::byte{'1'}};

/// One byte more than a message has, so that a longer one shows.
using Received = std::array<std::byte, kProtocol.size() + 1>;

/// Connections of each listener that wait; more are told to come back.
constexpr int kBacklog = 16;

bool IsProtocol(const Received& bytes, std::size_t length) {
  return length == kProtocol.size() && bytes[0] == kProtocol[0];
}

bool IsAgain(const Failure& failure) {
  return failure.error == EAGAIN;
}

/// A path as bind() and connect() take it. An empty one would be a name that the kernel makes up.
std::string SocketPath(Napi::Value value) {
  std::string path = Text(value, "path");
  const std::size_t most = syscall::LongestSocketPath();
  if (path.empty() || path.size() > most)
    throw OutOfRange(Napi::Number::New(value.Env(), static_cast<double>(path.size())), "the bytes of path",
                     "1 to " + std::to_string(most));
  return path;
}

/// Whether the socket file `name` is what somebody left who can no longer listen.
bool IsStale(const FileDescriptor& directory, const std::string& name, const std::string& path) {
  const Result<FileIdentity> file = syscall::Identify(directory.get(), name.c_str());
  const auto* const identity = std::get_if<FileIdentity>(&file);
  if (identity == nullptr || !S_ISSOCK(identity->mode)) return false;
  const Result<FileDescriptor> probe = syscall::Socket();
  const auto* const socket = std::get_if<FileDescriptor>(&probe);
  if (socket == nullptr) return false;
  const Status failure = syscall::Connect(socket->get(), path.c_str());
  return failure && failure->error == ECONNREFUSED;
}

Status BindInPlaceOfStale(const FileDescriptor& socket, const FileDescriptor& directory,
                          const std::string& name, const std::string& path) {
  Status failure = syscall::Bind(socket.get(), path.c_str(), S_IRUSR | S_IWUSR);
  if (!failure || failure->error != EADDRINUSE || !IsStale(directory, name, path)) return failure;
  if (Status refused = syscall::Unlink(directory.get(), name.c_str())) return refused;
  return syscall::Bind(socket.get(), path.c_str(), S_IRUSR | S_IWUSR);
}

/// EAGAIN while another process does the same in this directory.
Result<Listener> Listen(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);

  Result<FileDescriptor> made = syscall::Socket();
  if (const auto* failure = std::get_if<Failure>(&made)) return *failure;
  auto& socket = std::get<FileDescriptor>(made);
  Result<FileDescriptor> opened = syscall::Open(parent.c_str(), O_PATH | O_DIRECTORY, 0);
  if (const auto* failure = std::get_if<Failure>(&opened)) return *failure;
  auto& directory = std::get<FileDescriptor>(opened);
  // Until the end of this function. Between bind() and listen() a socket looks stale, and what was stale at
  // the look may be someone else's at unlink().
  const Result<FileDescriptor> lock = syscall::Open(parent.c_str(), O_RDONLY | O_DIRECTORY, 0);
  if (const auto* failure = std::get_if<Failure>(&lock)) return *failure;
  if (const Status failure = syscall::LockFile(std::get<FileDescriptor>(lock).get())) return *failure;

  if (const Status failure = BindInPlaceOfStale(socket, directory, name, path)) return *failure;
  const Result<FileIdentity> file = syscall::Identify(directory.get(), name.c_str());
  if (const auto* failure = std::get_if<Failure>(&file)) return *failure;
  Listener listener = {std::move(socket),
                       SocketFile(std::move(directory), name, std::get<FileIdentity>(file))};
  if (const Status failure = syscall::Listen(listener.socket.get(), kBacklog)) return *failure;
  return listener;
}

/// Connects, sends the descriptors and leaves it to the caller to wait for the answer.
Result<FileDescriptor> Send(const std::string& path, std::span<const int> descriptors) {
  Result<FileDescriptor> connection = syscall::Socket();
  if (std::holds_alternative<Failure>(connection)) return connection;
  const int fd = std::get<FileDescriptor>(connection).get();
  if (const Status failure = syscall::Connect(fd, path.c_str())) return *failure;
  if (const Status failure = syscall::Send(fd, kProtocol, descriptors)) return *failure;
  return connection;
}

/// Takes the message of a sender and answers it. ECONNRESET: the sender has left, whatever it had sent.
Result<Message> ReceiveFrom(const FileDescriptor& connection) {
  Received bytes = {};
  Result<Message> result = syscall::Receive(connection.get(), bytes);
  const auto* const message = std::get_if<Message>(&result);
  if (message == nullptr) return result;
  if (message->length == 0) return Failure{ECONNRESET, "recvmsg"};
  if (message->truncated) return Failure{EMFILE, "recvmsg"};
  if (!IsProtocol(bytes, message->length) || message->descriptors.empty()) return Failure{EPROTO, "recvmsg"};
  const Status failure = syscall::Send(connection.get(), kProtocol, {});
  if (failure) return Failure{failure->error == EPIPE ? ECONNRESET : failure->error, failure->syscall};
  return result;
}

Napi::Value WatchedOf(Napi::Env env, const FileDescriptor& fd) {
  if (fd.get() < 0) throw InvalidState(env, "the socket has been closed");
  return Napi::Number::New(env, fd.get());
}

}  // namespace

SocketFile::~SocketFile() {
  if (directory_.get() < 0) return;
  const Result<FileIdentity> file = syscall::Identify(directory_.get(), name_.c_str());
  const auto* const identity = std::get_if<FileIdentity>(&file);
  if (identity != nullptr && *identity == identity_) syscall::Unlink(directory_.get(), name_.c_str());
}

void DescriptorReceiver::Define(Napi::Object exports) {
  exports.Set("DescriptorReceiver", DefineClass(exports.Env(), "DescriptorReceiver",
                                                {
                                                    InstanceMethod<&DescriptorReceiver::Watched>("watched"),
                                                    InstanceMethod<&DescriptorReceiver::Receive>("receive"),
                                                    InstanceMethod<&DescriptorReceiver::Close>("close"),
                                                }));
}

DescriptorReceiver::DescriptorReceiver(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const std::string path = SocketPath(info[0]);
  listener_ = Take(info.Env(), Listen(path), {.path = path});
}

Napi::Value DescriptorReceiver::Watched(const Napi::CallbackInfo& info) {
  return WatchedOf(info.Env(), connection_.get() < 0 ? listener_.socket : connection_);
}

Napi::Value DescriptorReceiver::Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  for (;;) {
    if (connection_.get() < 0) {
      Result<FileDescriptor> accepted = syscall::Accept(listener_.socket.get());
      const auto* const failure = std::get_if<Failure>(&accepted);
      if (failure != nullptr && IsAgain(*failure)) return env.Undefined();
      connection_ = Take(env, std::move(accepted));
    }
    Result<Message> received = ReceiveFrom(connection_);
    const auto* const failure = std::get_if<Failure>(&received);
    if (failure != nullptr && IsAgain(*failure)) return env.Undefined();
    connection_ = FileDescriptor();
    // Nobody sends any more. It may have been a look whether somebody listens here.
    if (failure != nullptr && failure->error == ECONNRESET) continue;
    Message message = Take(env, std::move(received));

    Napi::Array descriptors = Napi::Array::New(env, message.descriptors.size());
    for (std::uint32_t i = 0; i < message.descriptors.size(); ++i)
      descriptors[i] = Napi::Number::New(env, message.descriptors[i].get());
    // JavaScript has them now.
    for (FileDescriptor& descriptor : message.descriptors) descriptor.Detach();
    return descriptors;
  }
}

void DescriptorReceiver::Close(const Napi::CallbackInfo&) {
  listener_ = Listener();
  connection_ = FileDescriptor();
}

void DescriptorSender::Define(Napi::Object exports) {
  exports.Set("DescriptorSender", DefineClass(exports.Env(), "DescriptorSender",
                                              {
                                                  InstanceMethod<&DescriptorSender::Watched>("watched"),
                                                  InstanceMethod<&DescriptorSender::IsAnswered>("isAnswered"),
                                                  InstanceMethod<&DescriptorSender::Close>("close"),
                                              }));
}

DescriptorSender::DescriptorSender(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  const std::string path = SocketPath(info[0]);
  const auto descriptors = Elements<std::int32_t>(info[1], "fds");
  if (descriptors.empty() || descriptors.size() > syscall::kMostDescriptors)
    throw OutOfRange(info[1], "fds", "1 to " + std::to_string(syscall::kMostDescriptors) + " elements");
  connection_ = Take(info.Env(), Send(path, descriptors), {.path = path});
}

Napi::Value DescriptorSender::Watched(const Napi::CallbackInfo& info) {
  return WatchedOf(info.Env(), connection_);
}

Napi::Value DescriptorSender::IsAnswered(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Received bytes = {};
  Result<Message> received = syscall::Receive(connection_.get(), bytes);
  const auto* const failure = std::get_if<Failure>(&received);
  if (failure != nullptr && IsAgain(*failure)) return Napi::Boolean::New(env, false);
  Message message = Take(env, std::move(received));
  // Linux looks for a message first and then whether the peer has closed (unix_dgram_recvmsg): an answer that
  // came in between, with the close behind it, is there at the second look.
  if (message.length == 0) message = Take(env, syscall::Receive(connection_.get(), bytes));
  // Where it was never read, the kernel has said ECONNRESET.
  if (message.length == 0) throw SystemError(env, {ECONNABORTED, "recvmsg"});
  if (!IsProtocol(bytes, message.length)) throw SystemError(env, {EPROTO, "recvmsg"});
  return Napi::Boolean::New(env, true);
}

void DescriptorSender::Close(const Napi::CallbackInfo&) {
  connection_ = FileDescriptor();
}

}  // namespace iospace
