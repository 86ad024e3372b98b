#include "arena.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "arena_shared.h"
#include "arguments.h"
#include "error.h"
#include "syscall.h"

namespace iospace {
namespace {

using arena::Code;
using arena::Outcome;
using arena::SharedArena;

/// The elements of `answer`, in the order of lib/binding.ts; lib/arena/refusal.ts has their places.
enum Element : std::uint8_t {
  kStart,
  kLength,
  kSerial,
  kOwner,
  kTag,
  kFree,
  kLongest,
  kError,
  kIndex,
  kElements
};

/// One attachment, as its functions share it.
class Attachment {
 public:
  Attachment(Napi::Env env, std::unique_ptr<SharedArena> arena, FileDescriptor file)
      : arena_(std::move(arena)), file_(std::move(file)) {
    Napi::Uint32Array answer = Napi::Uint32Array::New(env, kElements);
    elements_ = answer.Data();
    answer_ = Napi::Persistent(answer);
  }

  /// Null once closed.
  SharedArena* arena() const { return arena_.get(); }
  int fd() const { return file_.get(); }
  Napi::Uint32Array answer() const { return answer_.Value(); }

  /// What alignment and boundary are counted from.
  std::uint64_t base = 0;

  /// Fills `answer`; returns the code.
  std::uint32_t Tell(const Outcome& outcome) {
    elements_[kStart] = static_cast<std::uint32_t>(outcome.start);
    elements_[kLength] = static_cast<std::uint32_t>(outcome.length);
    elements_[kSerial] = outcome.serial;
    elements_[kOwner] = outcome.owner;
    elements_[kTag] = outcome.tag;
    elements_[kFree] = static_cast<std::uint32_t>(outcome.free);
    elements_[kLongest] = static_cast<std::uint32_t>(outcome.longest);
    elements_[kError] = static_cast<std::uint32_t>(outcome.error);
    elements_[kIndex] = outcome.index;
    return static_cast<std::uint32_t>(outcome.code);
  }

  void Close() {
    arena_.reset();
    file_ = FileDescriptor();
  }

 private:
  std::unique_ptr<SharedArena> arena_;
  /// Apart from the arena's own: whoever is sent this one must not keep an owner's lock.
  FileDescriptor file_;
  Napi::Reference<Napi::Uint32Array> answer_;
  std::uint32_t* elements_;
};

using Shared = std::shared_ptr<Attachment>;

constexpr const char* kClosed = "the arena is closed";

// The fast path.

/// An argument of type `T`, which JavaScript has given as a number.
bool Get(napi_env env, napi_value value, std::uint32_t& number) {
  return napi_get_value_uint32(env, value, &number) == napi_ok;
}

/// Of more than 32 bits: a number that is exact.
bool Get(napi_env env, napi_value value, std::uint64_t& number) {
  std::int64_t integer = 0;
  const bool is_number = napi_get_value_int64(env, value, &integer) == napi_ok;
  number = static_cast<std::uint64_t>(integer);
  return is_number && integer >= 0;
}

bool Get(napi_env env, napi_value value, bool& flag) {
  return napi_get_value_bool(env, value, &flag) == napi_ok;
}

struct AllocateArguments {
  std::uint32_t length = 0;
  std::uint64_t align = 1;
  std::uint64_t boundary = 0;
  std::uint32_t tag = 0;

  static constexpr std::size_t kCount = 4;
  bool Read(napi_env env, const napi_value* values, std::size_t count) {
    return Get(env, values[0], length) &&
           (count == 1 ||
            (Get(env, values[1], align) && Get(env, values[2], boundary) && Get(env, values[3], tag)));
  }
  Outcome Call(const Attachment& attachment) const {
    return attachment.arena()->Allocate({length, align, boundary, attachment.base}, tag);
  }
};

struct FreeArguments {
  std::uint32_t start = 0;
  std::uint32_t serial = 0;
  bool force = false;

  static constexpr std::size_t kCount = 3;
  bool Read(napi_env env, const napi_value* values, std::size_t count) {
    return Get(env, values[0], start) && Get(env, values[1], serial) &&
           (count == 2 || Get(env, values[2], force));
  }
  Outcome Call(const Attachment& attachment) const { return attachment.arena()->Free(start, serial, force); }
};

struct BlockAtArguments {
  std::uint32_t granule = 0;

  static constexpr std::size_t kCount = 1;
  bool Read(napi_env env, const napi_value* values, std::size_t) { return Get(env, values[0], granule); }
  Outcome Call(const Attachment& attachment) const { return attachment.arena()->BlockAt(granule); }
};

/// A function of the fast path: arguments, those that are usual left out, the call, `answer` and the code.
template <typename Arguments>
napi_value Fast(napi_env env, napi_callback_info info) {
  std::array<napi_value, Arguments::kCount> values = {};
  std::size_t count = values.size();
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, values.data(), nullptr, &data) != napi_ok) return nullptr;
  auto& attachment = *static_cast<Attachment*>(data);
  Arguments arguments;
  if (!arguments.Read(env, values.data(), count)) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "expected numbers that are not negative");
    return nullptr;
  }
  if (attachment.arena() == nullptr) {
    napi_throw_error(env, "ERR_INVALID_STATE", kClosed);
    return nullptr;
  }
  napi_value code = nullptr;
  napi_create_uint32(env, attachment.Tell(arguments.Call(attachment)), &code);
  return code;
}

template <typename Arguments>
void SetFast(Napi::Object object, const char* name, const Shared& attachment) {
  const Napi::Env env = object.Env();
  napi_value function = nullptr;
  NAPI_THROW_IF_FAILED_VOID(
      env, napi_create_function(env, name, NAPI_AUTO_LENGTH, Fast<Arguments>, attachment.get(), &function));
  Napi::Object(env, function)
      .AddFinalizer([](Napi::Env, Shared* share) { delete share; }, new Shared(attachment));
  object.Set(name, function);
}

// All else.

SharedArena& Live(Napi::Env env, const Attachment& attachment) {
  if (attachment.arena() == nullptr) throw InvalidState(env, kClosed);
  return *attachment.arena();
}

using Body = Napi::Value (*)(const Napi::CallbackInfo&, Attachment&, SharedArena&);

template <Body body>
void Set(Napi::Object object, const char* name, const Shared& attachment) {
  object.Set(name, Napi::Function::New(
                       object.Env(),
                       [attachment](const Napi::CallbackInfo& info) {
                         return body(info, *attachment, Live(info.Env(), *attachment));
                       },
                       name));
}

Napi::Number Number(Napi::Env env, std::uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

/// The calls that have no status of their own fail only where all do.
void CheckCode(Napi::Env env, Code code) {
  if (code == Code::kDone) return;
  throw SystemError(env, {code == Code::kDamaged ? EBADMSG : ENOTRECOVERABLE, "arena"});
}

Napi::Value AllocateMany(const Napi::CallbackInfo& info, Attachment& attachment, SharedArena& arena) {
  const Napi::Env env = info.Env();
  AllocateArguments arguments;
  const std::array<napi_value, AllocateArguments::kCount> values = {info[0], info[1], info[2], info[3]};
  if (!arguments.Read(env, values.data(), values.size()))
    throw InvalidType(info[0], "length", "numbers that are not negative");
  const auto starts = Elements<double>(info[4], "starts");
  const auto serials = Elements<double>(info[5], "serials");
  if (serials.size() != starts.size()) throw OutOfRange(info[5], "serials", "as many elements as starts");
  const Outcome outcome =
      arena.AllocateMany({arguments.length, arguments.align, arguments.boundary, attachment.base},
                         arguments.tag, starts, serials);
  return Number(env, attachment.Tell(outcome));
}

Napi::Value FreeMany(const Napi::CallbackInfo& info, Attachment& attachment, SharedArena& arena) {
  const auto starts = Elements<double>(info[0], "starts");
  const auto serials = Elements<double>(info[1], "serials");
  if (serials.size() != starts.size()) throw OutOfRange(info[1], "serials", "as many elements as starts");
  return Number(info.Env(), attachment.Tell(arena.FreeMany(starts, serials)));
}

Napi::Value SetBase(const Napi::CallbackInfo& info, Attachment& attachment, SharedArena&) {
  attachment.base = Unsigned64(info[0], "address");
  return info.Env().Undefined();
}

Napi::Value Tag(const Napi::CallbackInfo& info, Attachment& attachment, SharedArena& arena) {
  return Number(info.Env(), attachment.Tell(arena.Tag(Text(info[0], "name"))));
}

Napi::Value Tags(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  const std::vector<std::string> names = arena.Tags();
  Napi::Array tags = Napi::Array::New(info.Env(), names.size());
  for (std::uint32_t i = 0; i < names.size(); ++i) tags[i] = Napi::String::New(info.Env(), names[i]);
  return tags;
}

Napi::Array Usages(Napi::Env env, const std::vector<arena::Usage>& usages) {
  Napi::Array list = Napi::Array::New(env, usages.size());
  for (std::uint32_t i = 0; i < usages.size(); ++i) {
    Napi::Object usage = Napi::Object::New(env);
    usage["blocks"] = Number(env, usages[i].blocks);
    usage["granules"] = Number(env, usages[i].granules);
    list[i] = usage;
  }
  return list;
}

Napi::Value Measure(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  const Napi::Env env = info.Env();
  const arena::Measures measures = arena.Measure();
  CheckCode(env, measures.code);
  Napi::Object stats = Napi::Object::New(env);
  stats["used"] = Number(env, measures.stats.used);
  stats["free"] = Number(env, measures.stats.free);
  stats["blocks"] = Number(env, measures.stats.blocks);
  stats["mostUsed"] = Number(env, measures.stats.most_used);
  stats["longest"] = Number(env, measures.stats.longest);
  stats["fragmentation"] = Napi::Number::New(env, measures.stats.fragmentation);
  stats["byOwner"] = Usages(env, measures.by_owner);
  stats["byTag"] = Usages(env, measures.by_tag);
  return stats;
}

Napi::Value Owners(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  const Napi::Env env = info.Env();
  const std::vector<arena::Owner> owners = arena.Owners();
  Napi::Array list = Napi::Array::New(env, owners.size());
  for (std::uint32_t i = 0; i < owners.size(); ++i) {
    Napi::Object owner = Napi::Object::New(env);
    owner["owner"] = Number(env, owners[i].number);
    owner["alive"] = Napi::Boolean::New(env, owners[i].is_alive);
    owner["pid"] = Number(env, owners[i].pid);
    owner["threadId"] = Number(env, owners[i].thread);
    owner["program"] = Napi::String::New(env, owners[i].name);
    list[i] = owner;
  }
  return list;
}

Napi::Value Blocks(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  constexpr std::size_t kBatch = 4096;
  std::vector<std::uint32_t> numbers;
  std::vector<arena::Block> batch(kBatch);
  std::uint64_t from = 0;
  for (std::size_t count = kBatch; count == kBatch;) {
    count = arena.Blocks(from, batch);
    for (const arena::Block& block : std::span(batch).first(count)) {
      numbers.insert(numbers.end(),
                     {static_cast<std::uint32_t>(block.start), static_cast<std::uint32_t>(block.length),
                      block.serial, block.owner, block.tag});
      from = block.start + block.length;
    }
  }
  Napi::Uint32Array blocks = Napi::Uint32Array::New(info.Env(), numbers.size());
  std::copy(numbers.begin(), numbers.end(), blocks.Data());
  return blocks;
}

Napi::Value Map(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  const auto cells = Elements<double>(info[0], "cells");
  CheckCode(info.Env(), arena.Map(cells));
  return info.Env().Undefined();
}

constexpr const char* kBooksParts[] = {"", "operation", "used", "starts", "levels", "tree", "bins", "counts"};
constexpr const char* kRecordParts[] = {"", "operation", "heads", "entries", "nodes", "owners", "tags"};

template <typename Differences, std::size_t size>
Napi::Object Difference(Napi::Env env, const Differences& differences, const char* const (&parts)[size]) {
  Napi::Object difference = Napi::Object::New(env);
  difference["part"] = Napi::String::New(env, parts[static_cast<std::size_t>(differences.part)]);
  difference["count"] = Number(env, differences.count);
  difference["index"] = Number(env, differences.index);
  difference["expected"] = Napi::BigInt::New(env, differences.expected);
  difference["found"] = Napi::BigInt::New(env, differences.found);
  return difference;
}

Napi::Value Check(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  const Napi::Env env = info.Env();
  const arena::Report report = arena.Check();
  CheckCode(env, report.code);
  Napi::Array differences = Napi::Array::New(env);
  if (report.books.count > 0) differences[differences.Length()] = Difference(env, report.books, kBooksParts);
  if (report.records.count > 0)
    differences[differences.Length()] = Difference(env, report.records, kRecordParts);
  return differences;
}

Napi::Value Sweep(const Napi::CallbackInfo& info, Attachment&, SharedArena& arena) {
  const Napi::Env env = info.Env();
  const arena::Swept swept = arena.Sweep();
  CheckCode(env, swept.code);
  Napi::Object result = Napi::Object::New(env);
  result["blocks"] = Number(env, swept.blocks);
  result["granules"] = Number(env, swept.granules);
  result["owners"] = Number(env, swept.owners);
  return result;
}

Napi::Object Describe(Napi::Env env, const arena::Description& about) {
  Napi::Object description = Napi::Object::New(env);
  description["granule"] = Number(env, about.shape.granule);
  description["granules"] = Number(env, about.shape.granules);
  description["memoryOffset"] = Number(env, about.memory_offset);
  description["kind"] = Number(env, static_cast<std::uint64_t>(about.kind));
  description["maxBlocks"] = Number(env, about.max_blocks);
  description["name"] = Napi::String::New(env, about.name);
  return description;
}

Napi::Object Refuse(Napi::Env env, const arena::Refusal& about) {
  Napi::Object refusal = Napi::Object::New(env);
  refusal["fault"] = Number(env, static_cast<std::uint64_t>(about.fault));
  refusal["errno"] = Napi::Number::New(env, about.error);
  refusal["syscall"] = Napi::String::New(env, about.syscall);
  refusal["expected"] = Napi::BigInt::New(env, about.expected);
  refusal["found"] = Napi::BigInt::New(env, about.found);
  return refusal;
}

/// The object over an attachment, or why there is none.
Napi::Value Wrap(Napi::Env env, int fd, SharedArena::Attachment attached) {
  if (const auto* const refusal = std::get_if<arena::Refusal>(&attached)) return Refuse(env, *refusal);
  auto shared = std::get<std::unique_ptr<SharedArena>>(std::move(attached));
  FileDescriptor file = Take(env, syscall::Duplicate(fd));
  const auto attachment = std::make_shared<Attachment>(env, std::move(shared), std::move(file));

  Napi::Object object = Napi::Object::New(env);
  object["description"] = Describe(env, attachment->arena()->description());
  object["owner"] = Number(env, attachment->arena()->owner());
  object["fd"] = Napi::Number::New(env, attachment->fd());
  object["answer"] = attachment->answer();
  SetFast<AllocateArguments>(object, "allocate", attachment);
  SetFast<FreeArguments>(object, "free", attachment);
  SetFast<BlockAtArguments>(object, "blockAt", attachment);
  Set<AllocateMany>(object, "allocateMany", attachment);
  Set<FreeMany>(object, "freeMany", attachment);
  Set<SetBase>(object, "setBase", attachment);
  Set<Tag>(object, "tag", attachment);
  Set<Tags>(object, "tags", attachment);
  Set<Measure>(object, "measure", attachment);
  Set<Owners>(object, "owners", attachment);
  Set<Blocks>(object, "blocks", attachment);
  Set<Map>(object, "map", attachment);
  Set<Check>(object, "check", attachment);
  Set<Sweep>(object, "sweep", attachment);
  object["close"] = Napi::Function::New(
      env, [attachment](const Napi::CallbackInfo&) { attachment->Close(); }, "close");
  return object;
}

Napi::Value CreateArena(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  if (!info[1].IsObject()) throw InvalidType(info[1], "creation", "an object");
  const auto given = info[1].As<Napi::Object>();
  const auto number = [&given](const char* name) {
    return static_cast<std::uint64_t>(Integer(given.Get(name), name, 0, kMaxSafeInteger));
  };
  const auto flag = [&given](const char* name) {
    const Napi::Value value = given.Get(name);
    if (!value.IsBoolean()) throw InvalidType(value, name, "a boolean");
    return value.As<Napi::Boolean>().Value();
  };
  arena::Creation creation;
  creation.shape = {number("granule"), number("granules")};
  creation.memory_bytes = number("memoryBytes");
  creation.kind = static_cast<arena::Kind>(Integer(given.Get("kind"), "kind", 1, 5));
  creation.reclaims = flag("reclaims");
  creation.allocate = flag("allocate");
  creation.physical_address = Unsigned64(given.Get("physicalAddress"), "physicalAddress");
  creation.max_blocks = number("maxBlocks");
  creation.name = Text(given.Get("name"), "name");
  return Wrap(info.Env(), fd, SharedArena::Create(fd, creation));
}

Napi::Value AttachArena(const Napi::CallbackInfo& info) {
  const int fd = Descriptor(info[0], "fd");
  return Wrap(info.Env(), fd, SharedArena::Attach(fd));
}

}  // namespace

void DefineArena(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("createArena", Napi::Function::New<CreateArena>(env, "createArena"));
  exports.Set("attachArena", Napi::Function::New<AttachArena>(env, "attachArena"));
}

}  // namespace iospace
