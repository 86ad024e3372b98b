/**
 * What can be measured: the names, and what each means. How it is done is elsewhere: `memory-work.ts`, `interrupt-work.ts`.
 *
 * @module
 */
import type { MemoryType } from '../device/memory.js';

/** What an operation is about. */
export const groups = ['read', 'write', 'random', 'sync', 'memory', 'interrupt'] as const;
export type Group = (typeof groups)[number];

/** What a figure is the time of: all of the size once, one access, one call, one event. */
export type Per = 'pass' | 'access' | 'call' | 'event';

export interface Operation {
  readonly group: Group;
  readonly per: Per;
  /** In a few words, for a legend. */
  readonly label: string;
  /** What exactly is measured. */
  readonly says: string;
  /** The types of memory for which it means something; absent: all. */
  readonly memory?: readonly MemoryType[];
}

/** All operations, in the order in which they are measured and shown. */
export const operations = {
  'js-read': {
    group: 'read',
    per: 'pass',
    label: 'JavaScript reads words',
    says: 'a loop over a Uint32Array that reads each element',
  },
  'js-sum': {
    group: 'read',
    per: 'pass',
    label: 'JavaScript sums bytes',
    says: 'a loop over a Uint8Array that adds up each element',
  },
  'js-copy-out': {
    group: 'read',
    per: 'pass',
    label: 'TypedArray.set',
    says: 'TypedArray.prototype.set from the memory into ordinary memory',
  },
  'native-read': {
    group: 'read',
    per: 'pass',
    label: 'native read',
    says: 'copyFrom of iospace/cache, 16 KiB at a time, always into the same ordinary memory, which stays in the cache',
  },
  'copy-out': {
    group: 'read',
    per: 'pass',
    label: 'copyFrom',
    says: 'copyFrom of iospace/cache, all of it, into ordinary memory',
  },
  'js-write': {
    group: 'write',
    per: 'pass',
    label: 'JavaScript writes words',
    says: 'a loop over a Uint32Array that writes each element',
  },
  'js-copy-in': {
    group: 'write',
    per: 'pass',
    label: 'TypedArray.set',
    says: 'TypedArray.prototype.set from ordinary memory into the memory',
  },
  'js-fill': {
    group: 'write',
    per: 'pass',
    label: 'TypedArray.fill',
    says: 'Uint8Array.prototype.fill',
  },
  'native-write': {
    group: 'write',
    per: 'pass',
    label: 'native write',
    says: 'copyTo of iospace/cache, 16 KiB at a time, always from the same ordinary memory, which stays in the cache',
  },
  'copy-in': {
    group: 'write',
    per: 'pass',
    label: 'copyTo',
    says: 'copyTo of iospace/cache, all of it, from ordinary memory',
  },
  fill: { group: 'write', per: 'pass', label: 'fill', says: 'fill of iospace/cache' },
  'random-read': {
    group: 'random',
    per: 'access',
    label: 'random 8-byte read',
    says: 'a read of 8 bytes at a random cache line, whose value says where the next read is: its whole latency',
  },
  'sync-for-device': {
    group: 'sync',
    per: 'call',
    label: 'syncForDevice',
    says: 'buffer.syncForDevice() of all of it, after each line was written',
    memory: ['cached'],
  },
  'sync-for-cpu': {
    group: 'sync',
    per: 'call',
    label: 'syncForCpu',
    says: 'buffer.syncForCpu() of all of it, after each line was read',
    memory: ['cached'],
  },
  clean: {
    group: 'sync',
    per: 'call',
    label: 'clean',
    says: 'clean of iospace/cache of all of it, after each line was written',
    memory: ['cached'],
  },
  flush: {
    group: 'sync',
    per: 'call',
    label: 'flush',
    says: 'flush of iospace/cache of all of it, after each line was written',
    memory: ['cached'],
  },
  invalidate: {
    group: 'sync',
    per: 'call',
    label: 'invalidate',
    says: 'invalidate of iospace/cache of all of it, after each line was read',
    memory: ['cached'],
  },
  alloc: {
    group: 'memory',
    per: 'call',
    label: 'alloc',
    says: 'device.alloc(), and a write to each page',
  },
  free: { group: 'memory', per: 'call', label: 'free', says: 'buffer.free()' },
  map: {
    group: 'memory',
    per: 'call',
    label: 'map and unmap',
    says: "device.mapUser() of ordinary memory that is there already, 'toDevice', and unmap()",
    memory: ['cached'],
  },
  'interrupt-poll': {
    group: 'interrupt',
    per: 'event',
    label: 'uv_poll',
    says: 'from the event until the callback runs, by uv_poll, as waitForInterrupt() does it; the process sleeps meanwhile',
  },
  'interrupt-read': {
    group: 'interrupt',
    per: 'event',
    label: 'fs.read',
    says: 'from the event until the callback of fs.read runs, through the thread pool',
  },
  'interrupt-spin': {
    group: 'interrupt',
    per: 'event',
    label: 'busy polling',
    says: 'from the event until it is seen by busy polling, as waitForInterrupt({ spin }) does it before it sleeps',
  },
  'interrupt-rate-poll': {
    group: 'interrupt',
    per: 'event',
    label: 'uv_poll, sustained',
    says: 'the time of one event when each callback raises the next one, by uv_poll',
  },
  'interrupt-rate-read': {
    group: 'interrupt',
    per: 'event',
    label: 'fs.read, sustained',
    says: 'the time of one event when each callback raises the next one, by fs.read',
  },
} as const satisfies Readonly<Record<string, Operation>>;

export type OperationName = keyof typeof operations;

export const operationNames = Object.keys(operations) as readonly OperationName[];

export function isOperationName(name: string): name is OperationName {
  return Object.hasOwn(operations, name);
}

export function operation(name: OperationName): Operation {
  return operations[name];
}
