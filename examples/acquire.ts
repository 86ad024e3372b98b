/**
 * The transfer of a data acquisition device, complete: memory that the program has anyway is mapped for the device, the
 * device's registers are set, it is started, its interrupt awaited, the memory unmapped, and only then read. Both ways: a
 * Buffer goes out, and comes back into memory that was mapped for it.
 *
 * The device, QEMU's "edu" PCI function, moves 4 KiB at a time. What is longer, or lies in several pieces, is a queue of
 * commands. Run it in the lab:
 *
 *     npx iospace lab run --device edu -- node build/examples/acquire.js
 */
import { randomBytes } from 'node:crypto';
import { DmaDevice, type DmaSegment, listDevices } from 'iospace';
import * as raw from 'iospace/raw';

// The device's registers: QEMU, docs/specs/edu.
const INTERRUPT_STATUS = 0x24;
const INTERRUPT_ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;

const COMMAND_START = 0x01;
const COMMAND_TO_MEMORY = 0x02;
const COMMAND_INTERRUPT = 0x04;

/** Where the device's own memory lies, in its address space. */
const WINDOW = 0x40000n;
/** It has 4096 bytes, but QEMU 7.2 refuses a transfer that reaches the last one. */
const WINDOW_LENGTH = 4032;

/** More than two windows, and not a whole number of them. */
const LENGTH = 9 * 1024;

/** What the device does at once. */
interface Command {
  direction: 'toDevice' | 'fromDevice';
  dmaAddress: bigint;
  length: number;
  /** Which window's load of the whole transfer this is a part of, and where in the window it lies. */
  load: number;
  offset: number;
}

/** The commands that move memory: no longer than a window, none across the end of a segment. */
function queueOf(direction: Command['direction'], segments: readonly DmaSegment[]): Command[] {
  const queue: Command[] = [];
  let position = 0;
  for (const segment of segments) {
    for (let at = 0; at < segment.length; ) {
      const offset = position % WINDOW_LENGTH;
      const length = Math.min(segment.length - at, WINDOW_LENGTH - offset);
      const load = Math.floor(position / WINDOW_LENGTH);
      queue.push({ direction, dmaAddress: segment.dmaAddress + BigInt(at), length, load, offset });
      at += length;
      position += length;
    }
  }
  return queue;
}

/** Sets the registers, starts, and waits for the interrupt. */
async function run(device: DmaDevice, { direction, dmaAddress, length, offset }: Command): Promise<void> {
  const registers = device.registers(0);
  const inDevice = WINDOW + BigInt(offset);
  const isOut = direction === 'toDevice';
  registers.writeAddress(DMA_SOURCE, isOut ? dmaAddress : inDevice);
  registers.writeAddress(DMA_DESTINATION, isOut ? inDevice : dmaAddress);
  registers.write32(DMA_COUNT, length);
  registers.write32(DMA_COMMAND, COMMAND_START | COMMAND_INTERRUPT | (isOut ? 0 : COMMAND_TO_MEMORY));
  await device.waitForInterrupt({ timeout: 10_000 });
  registers.write32(INTERRUPT_ACKNOWLEDGE, registers.read32(INTERRUPT_STATUS));
}

/** Sends one view through the device into another. What the second holds may be read when this has resolved. */
async function transfer(device: DmaDevice, source: Uint8Array, target: Uint8Array): Promise<Command[]> {
  // From here on it is the device's turn, until the end of the block.
  using out = device.mapUser(source, 'toDevice');
  using back = device.mapUser(target, 'fromDevice');
  const queue = [...queueOf('toDevice', out.segments), ...queueOf('fromDevice', back.segments)];
  // The device has room for one load: it goes out, and comes back, before the next.
  queue.sort((a, b) => a.load - b.load);
  for (const command of queue) {
    await run(device, command);
  }
  return queue;
}

const edu = listDevices().find(({ bus }) => bus === 'pci');
if (edu === undefined) {
  throw new Error('no PCI function is bound to iospace: run this in the lab with --device edu');
}

using device = DmaDevice.open(edu.name);
const source = randomBytes(LENGTH);
// Whole pages. A device that does not snoop must not write into a cache line that other data shares, as the ends of a
// Buffer do.
const { PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS } = raw.constants;
using pages = raw.mmap(-1, LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
const target = pages.bytes;

const queue = await transfer(device, source, target);
console.table(
  queue.map(({ direction, dmaAddress, length, offset }) => ({
    direction,
    'bus address': `0x${dmaAddress.toString(16)}`,
    bytes: length,
    'at in the device': offset,
  })),
);
const difference = source.findIndex((byte, index) => byte !== target[index]);
if (difference !== -1) {
  throw new Error(`what came back differs from what was sent, first at byte ${difference}`);
}
console.log(`${LENGTH} bytes out and back by ${queue.length} commands: equal`);
