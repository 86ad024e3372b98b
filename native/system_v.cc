#include "system_v.h"

#include <sys/shm.h>

#include "arguments.h"
#include "error.h"
#include "syscall.h"

namespace iospace {
namespace {

/// What no owner and no group is called, so that it can stand for the one that there is.
constexpr std::uint32_t kUnchanged = UINT32_MAX;

/// The bits of a mode that can be set: those above say that a segment is removed, or locked.
constexpr std::uint32_t kPermissions = 0777;

template <typename T>
Napi::Value Number(Napi::Env env, T value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

Napi::Value Ftok(const Napi::CallbackInfo& info) {
  const std::string path = Text(info[0], "path");
  const int id = Integer<int>(info[1], "id");
  return Number(info.Env(), Take(info.Env(), syscall::KeyOf(path.c_str(), id), {.path = path}));
}

Napi::Value Shmget(const Napi::CallbackInfo& info) {
  const int key = Integer<int>(info[0], "key");
  const std::size_t size = Length(info[1], "size");
  const int flags = Integer<int>(info[2], "flags");
  return Number(info.Env(), Take(info.Env(), syscall::GetSegment(key, size, flags)));
}

Napi::Value ShmStat(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const shmid_ds status = Take(env, syscall::SegmentStatus(Integer<int>(info[0], "id")));
  Napi::Object result = Napi::Object::New(env);
  result["key"] = Number(env, status.shm_perm.__key);
  result["mode"] = Number(env, status.shm_perm.mode);
  result["size"] = Number(env, status.shm_segsz);
  result["attached"] = Number(env, status.shm_nattch);
  result["creatorPid"] = Number(env, status.shm_cpid);
  result["lastPid"] = Number(env, status.shm_lpid);
  result["uid"] = Number(env, status.shm_perm.uid);
  result["gid"] = Number(env, status.shm_perm.gid);
  result["creatorUid"] = Number(env, status.shm_perm.cuid);
  result["creatorGid"] = Number(env, status.shm_perm.cgid);
  result["attachTime"] = Number(env, status.shm_atime);
  result["detachTime"] = Number(env, status.shm_dtime);
  result["changeTime"] = Number(env, status.shm_ctime);
  return result;
}

void ShmSet(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int id = Integer<int>(info[0], "id");
  const auto uid = Integer<std::uint32_t>(info[1], "uid");
  const auto gid = Integer<std::uint32_t>(info[2], "gid");
  const auto mode = Integer<std::uint32_t>(info[3], "mode");
  shmid_ds status = Take(env, syscall::SegmentStatus(id));
  if (uid != kUnchanged) status.shm_perm.uid = uid;
  if (gid != kUnchanged) status.shm_perm.gid = gid;
  // The type of a mode differs between C libraries and machines.
  const std::uint32_t chosen = mode == kUnchanged ? status.shm_perm.mode : mode;
  status.shm_perm.mode = static_cast<decltype(status.shm_perm.mode)>(chosen & kPermissions);
  Check(env, syscall::SetSegment(id, status));
}

/// IPC_RMID, SHM_LOCK, SHM_UNLOCK.
template <int kCommand>
void Control(const Napi::CallbackInfo& info) {
  Check(info.Env(), syscall::ControlSegment(Integer<int>(info[0], "id"), kCommand));
}

Napi::Value ShmInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const shminfo limits = Take(env, syscall::SegmentLimits());
  const shm_info usage = Take(env, syscall::SegmentUsage());
  Napi::Object result = Napi::Object::New(env);
  result["maxBytes"] = Napi::BigInt::New(env, std::uint64_t{limits.shmmax});
  result["minBytes"] = Number(env, limits.shmmin);
  result["maxSegments"] = Number(env, limits.shmmni);
  result["maxPages"] = Napi::BigInt::New(env, std::uint64_t{limits.shmall});
  result["segments"] = Number(env, usage.used_ids);
  result["pages"] = Number(env, usage.shm_tot);
  result["residentPages"] = Number(env, usage.shm_rss);
  result["swappedPages"] = Number(env, usage.shm_swp);
  return result;
}

}  // namespace

void DefineSystemV(Napi::Object exports) {
  const Napi::Env env = exports.Env();
  exports.Set("ftok", Napi::Function::New<Ftok>(env, "ftok"));
  exports.Set("shmget", Napi::Function::New<Shmget>(env, "shmget"));
  exports.Set("shmStat", Napi::Function::New<ShmStat>(env, "shmStat"));
  exports.Set("shmSet", Napi::Function::New<ShmSet>(env, "shmSet"));
  exports.Set("shmRemove", Napi::Function::New<Control<IPC_RMID>>(env, "shmRemove"));
  exports.Set("shmLock", Napi::Function::New<Control<SHM_LOCK>>(env, "shmLock"));
  exports.Set("shmUnlock", Napi::Function::New<Control<SHM_UNLOCK>>(env, "shmUnlock"));
  exports.Set("shmInfo", Napi::Function::New<ShmInfo>(env, "shmInfo"));
}

}  // namespace iospace
