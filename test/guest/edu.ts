/**
 * QEMU's "edu" function, as the guest tests use it: a device with registers, an interrupt and a DMA engine between
 * memory and 4096 bytes of its own. What reaches beyond those ends QEMU, and so does what reaches their last byte.
 */
import { readFileSync } from 'node:fs';
import {
  type DeviceInfo,
  DmaDevice,
  type DmaSegment,
  type InterruptEvent,
  listDevices,
  type Registers,
} from 'iospace';

export const IDENTIFICATION = 0x00;
export const INVERSION = 0x04;
export const FACTORIAL = 0x08;
export const STATUS = 0x20;
export const INTERRUPT_STATUS = 0x24;
const INTERRUPT_RAISE = 0x60;
export const INTERRUPT_ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;

const COMMAND_START = 1;
const COMMAND_TO_MEMORY = 2;
const COMMAND_INTERRUPT = 4;

const DEVICE_MEMORY = 0x40000n;
export const DEVICE_MEMORY_LENGTH = 4095;

/** How many times as long as elsewhere everything may take on this machine. */
export const PATIENCE = Number(process.env['IOSPACE_PATIENCE'] ?? 1);

/** A generous time for an emulated machine, in milliseconds. */
export const SOON = 10_000 * PATIENCE;

export function findEdu(): DeviceInfo {
  const info = listDevices().find(({ bus }) => bus === 'pci');
  if (info === undefined) {
    throw new Error('no PCI function is bound to iospace: run this in the lab with --device edu');
  }
  return info;
}

/** Opens the function, quiet. */
export function openEdu(): DmaDevice {
  const device = DmaDevice.open(findEdu().name);
  acknowledge(device.registers(0));
  return device;
}

export function acknowledge(registers: Registers): void {
  registers.write32(INTERRUPT_ACKNOWLEDGE, registers.read32(INTERRUPT_STATUS));
}

/** Makes the device interrupt. */
export function raise(registers: Registers): void {
  registers.write32(INTERRUPT_RAISE, 1);
}

/** Waits for an interrupt and quiets the device. */
export async function interrupted(device: DmaDevice): Promise<InterruptEvent> {
  const event = await device.waitForInterrupt({ timeout: SOON });
  acknowledge(device.registers(0));
  return event;
}

/** Copies memory to the device's own, at `offset` in it. */
export function toDevice(
  device: DmaDevice,
  dmaAddress: bigint,
  length: number,
  offset = 0,
): Promise<InterruptEvent> {
  return transfer(device, dmaAddress, DEVICE_MEMORY + BigInt(offset), length, 0);
}

/** Copies the device's own memory, from `offset` in it, to memory. */
export function fromDevice(
  device: DmaDevice,
  dmaAddress: bigint,
  length: number,
  offset = 0,
): Promise<InterruptEvent> {
  return transfer(device, DEVICE_MEMORY + BigInt(offset), dmaAddress, length, COMMAND_TO_MEMORY);
}

function transfer(
  device: DmaDevice,
  source: bigint,
  destination: bigint,
  length: number,
  direction: number,
): Promise<InterruptEvent> {
  const registers = device.registers(0);
  registers.writeAddress(DMA_SOURCE, source);
  registers.writeAddress(DMA_DESTINATION, destination);
  registers.write32(DMA_COUNT, length);
  registers.write32(DMA_COMMAND, COMMAND_START | COMMAND_INTERRUPT | direction);
  return interrupted(device);
}

/** The pieces of a part of what some segments make up together. */
export function pieces(segments: readonly DmaSegment[], offset: number, length: number): DmaSegment[] {
  const found: DmaSegment[] = [];
  let position = 0;
  for (const segment of segments) {
    const begin = Math.max(offset, position);
    const end = Math.min(offset + length, position + segment.length);
    if (begin < end) {
      found.push({ dmaAddress: segment.dmaAddress + BigInt(begin - position), length: end - begin });
    }
    position += segment.length;
  }
  return found;
}

/** Copies memory in several pieces to the start of the device's own. */
export async function gather(device: DmaDevice, segments: readonly DmaSegment[]): Promise<void> {
  let offset = 0;
  for (const { dmaAddress, length } of segments) {
    await toDevice(device, dmaAddress, length, offset);
    offset += length;
  }
}

/** Copies the start of the device's own memory to memory in several pieces. */
export async function scatter(device: DmaDevice, segments: readonly DmaSegment[]): Promise<void> {
  let offset = 0;
  for (const { dmaAddress, length } of segments) {
    await fromDevice(device, dmaAddress, length, offset);
    offset += length;
  }
}

/** What the start of the device's own memory holds, by way of memory that needs no sync. */
export async function deviceMemory(device: DmaDevice, length: number): Promise<Buffer> {
  using buffer = device.alloc(length);
  await fromDevice(device, buffer.dmaAddress, length);
  return Buffer.from(buffer.bytes);
}

/** What the module counts for a device. */
interface Counters {
  buffers: number;
  buffer_bytes: number;
  held_bytes: number;
  open_files: number;
}

export const NOTHING: Counters = { buffers: 0, buffer_bytes: 0, held_bytes: 0, open_files: 0 };

export function counters(name: string): Counters {
  const read = (key: string): number => Number(readFileSync(`/sys/class/misc/${name}/${key}`, 'utf8'));
  return {
    buffers: read('buffers'),
    buffer_bytes: read('buffer_bytes'),
    held_bytes: read('held_bytes'),
    open_files: read('open_files'),
  };
}

/** Free memory of the machine, in bytes, with what each processor keeps at hand. */
export function memFree(): number {
  const counts = readFileSync('/proc/zoneinfo', 'utf8').matchAll(/^ +(?:nr_free_pages|count:) +(\d+)$/gm);
  const pages = [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  return pages * findEdu().pageSize;
}
