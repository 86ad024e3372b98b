/**
 * What the guest is asked when its kernel is the debug kernel, as shell commands. Most of what that kernel finds it
 * says in its log by itself, and any such line fails the command that runs (`lib/lab/kernel-log.ts`).
 */

/**
 * Some checks end at their first finding, or when they run out of memory: then silence says nothing. Of what taints the
 * kernel only the module that is not of its tree (4096) may have happened.
 */
export const checksAreOn = `
set -ex
grep -q '^ debug_locks: *1$' /proc/lockdep_stats
[ "$(cat /sys/kernel/debug/dma-api/disabled)" = N ]
[ "$(cat /sys/kernel/debug/dma-api/error_count)" = 0 ]
[ "$(cat /proc/sys/kernel/tainted)" = 4096 ]
`;

/**
 * kmemleak scans only when told to: here, after everything else, with the module and then without it, since what only
 * its own data names is lost with it. An object counts that no memory names in two scans some seconds apart, whoever
 * allocated it: a kernel that has only booted shows none. What is found stands in the log, as a fault, with where it
 * was allocated.
 */
export const nothingLeaked = `
set -ex
scan() {
  echo scan > /sys/kernel/debug/kmemleak
  sleep 6
  echo scan > /sys/kernel/debug/kmemleak
  found=$(cat /sys/kernel/debug/kmemleak)
  [ -z "$found" ]
}
scan
rmmod iospace
scan
`;
