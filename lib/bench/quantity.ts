/**
 * What was measured in words: times, bandwidths, counts, ratios.
 *
 * @module
 */
import { type OperationName, operation } from './operation.js';

/** What figures count: time, or what the processor does. */
export type Unit = 'ns' | 'instructions';

/** Three digits that say something: `0.512`, `5.12`, `51.2`, `512`, `5120`. */
export function digits(value: number): string {
  const whole = value === 0 ? 1 : Math.floor(Math.log10(Math.abs(value))) + 1;
  return Number.isFinite(value) ? value.toFixed(Math.min(Math.max(3 - whole, 0), 3)) : '?';
}

/** `153 ns`, `1.53 µs`, `15.3 ms`, `2.50 s`. */
export function timeText(ns: number): string {
  const power = ns < 1000 ? 0 : Math.min(Math.floor(Math.log10(ns) / 3), 3);
  return `${digits(ns / 1000 ** power)} ${['ns', 'µs', 'ms', 's'][power]}`;
}

/** `950 MB/s`, `9.50 GB/s`: decimal, as the figures of memory are. */
export function bandwidthText(bytesPerSecond: number): string {
  return bytesPerSecond < 1e9
    ? `${digits(bytesPerSecond / 1e6)} MB/s`
    : `${digits(bytesPerSecond / 1e9)} GB/s`;
}

/** `12 300 instructions` without the word. */
function countText(count: number): string {
  return Math.round(count)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ' ');
}

/** Bytes a second. */
export function bandwidth(size: number, ns: number): number {
  return (size * 1e9) / ns;
}

/** Whether its figure is shown as a bandwidth: more is better. */
export function isBandwidth(name: OperationName, unit: Unit): boolean {
  return unit === 'ns' && operation(name).per === 'pass';
}

/** A figure as it is shown: a bandwidth for what passes over memory, otherwise a time; or a count of instructions. */
export function figureText(name: OperationName, size: number | null, median: number, unit: Unit): string {
  if (unit === 'instructions') {
    return countText(median);
  }
  return size !== null && isBandwidth(name, unit) ? bandwidthText(bandwidth(size, median)) : timeText(median);
}

/** `±2 %`, of a share. */
export function spreadText(share: number): string {
  return `±${share < 0.0095 ? '<1' : Math.round(share * 100)} %`;
}

/** `3.2 times`; `12 times`. */
export function timesText(ratio: number): string {
  return `${ratio < 9.95 ? ratio.toFixed(1) : Math.round(ratio)} times`;
}
