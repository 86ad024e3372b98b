/**
 * Moves data through a device: QEMU's "edu" PCI function, a teaching device with a real DMA engine.
 *
 * It lists the devices, checks the function's identification and factorial registers, sends a buffer to the
 * device's own memory by DMA, fetches it back into a second buffer, and compares. Each step waits for the
 * device's interrupt. Run it in the lab:
 *
 *     npx iospace lab run --device edu -- node build/examples/edu.js
 *
 * `--provider memfd` runs the memory part alone, on any machine. `--damage` flips one bit of what came
 * back, to show that the comparison can fail.
 */
import { randomFillSync } from 'node:crypto';
import { parseArgs } from 'node:util';
import { type DmaBuffer, DmaDevice, listDevices, type Registers } from 'iospace';

// The device's registers: QEMU, docs/specs/edu.
const IDENTIFICATION = 0x00;
const FACTORIAL = 0x08;
const STATUS = 0x20;
const INTERRUPT_STATUS = 0x24;
const INTERRUPT_ACKNOWLEDGE = 0x64;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;

const STATUS_COMPUTING = 0x01;
const STATUS_INTERRUPT_WHEN_COMPUTED = 0x80;
const COMMAND_START = 0x01;
const COMMAND_TO_MEMORY = 0x02;
const COMMAND_INTERRUPT = 0x04;

/** Where the device's own memory lies, in its address space. */
const DEVICE_MEMORY = 0x40000n;
/** It has 4096 bytes, but QEMU 7.2 refuses a transfer that reaches the last one. */
const TRANSFER_LENGTH = 4088;

const { values: options } = parseArgs({
  options: { provider: { type: 'string', default: 'iospace' }, damage: { type: 'boolean', default: false } },
});

interface Step {
  step: string;
  bytes?: number;
  'bus address'?: string;
  interrupts?: number;
  ms?: number;
}
const steps: Step[] = [];

function expectEqual(what: string, actual: number, expected: number): void {
  if (actual !== expected) {
    throw new Error(`${what}: expected 0x${expected.toString(16)}, got 0x${actual.toString(16)}`);
  }
}

/** Does what `start` begins, waits for the interrupt that ends it, and acknowledges. */
async function interrupted(
  device: DmaDevice,
  registers: Registers,
  step: Step,
  start: () => void,
): Promise<void> {
  const begin = performance.now();
  start();
  const event = await device.waitForInterrupt({ timeout: 10_000 });
  registers.write32(INTERRUPT_ACKNOWLEDGE, registers.read32(INTERRUPT_STATUS));
  steps.push({
    ...step,
    interrupts: 1 + Number(event.missed),
    ms: Math.round((performance.now() - begin) * 10) / 10,
  });
}

/** Through the device: memory to the device's memory, and back into the second buffer. */
async function throughDevice(device: DmaDevice, source: DmaBuffer, target: DmaBuffer): Promise<void> {
  const registers = device.registers(0);
  expectEqual('identification', registers.read32(IDENTIFICATION), 0x010000ed);
  steps.push({ step: 'identification register' });

  await interrupted(device, registers, { step: '10! by the device' }, () => {
    registers.write32(STATUS, STATUS_INTERRUPT_WHEN_COMPUTED);
    registers.write32(FACTORIAL, 10);
  });
  expectEqual('status', registers.read32(STATUS) & STATUS_COMPUTING, 0);
  expectEqual('factorial', registers.read32(FACTORIAL), 3_628_800);

  source.syncForDevice();
  const outward = {
    step: 'memory → device',
    bytes: source.byteLength,
    'bus address': hex(source.dmaAddress),
  };
  await interrupted(device, registers, outward, () => {
    registers.writeAddress(DMA_SOURCE, source.dmaAddress);
    registers.writeAddress(DMA_DESTINATION, DEVICE_MEMORY);
    registers.write32(DMA_COUNT, source.byteLength);
    registers.write32(DMA_COMMAND, COMMAND_START | COMMAND_INTERRUPT);
  });

  const inward = { step: 'device → memory', bytes: target.byteLength, 'bus address': hex(target.dmaAddress) };
  await interrupted(device, registers, inward, () => {
    registers.writeAddress(DMA_SOURCE, DEVICE_MEMORY);
    registers.writeAddress(DMA_DESTINATION, target.dmaAddress);
    registers.write32(DMA_COUNT, target.byteLength);
    registers.write32(DMA_COMMAND, COMMAND_START | COMMAND_TO_MEMORY | COMMAND_INTERRUPT);
  });
  target.syncForCpu();
}

function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}

/** The device to use: the PCI function in the lab, or plain memory. */
function open(): DmaDevice {
  if (options.provider === 'memfd') {
    return DmaDevice.open({ provider: 'memfd' });
  }
  const devices = listDevices();
  console.table(
    devices.map(({ name, bus, device, dmaMask, iommu }) => ({
      name,
      bus,
      device,
      mask: hex(dmaMask),
      iommu,
    })),
  );
  const edu = devices.find((device) => device.bus === 'pci');
  if (edu === undefined) {
    throw new Error('no PCI function is bound to iospace: run this in the lab with --device edu');
  }
  return DmaDevice.open(edu.name);
}

using device = open();
using source = device.alloc(TRANSFER_LENGTH);
using target = device.alloc(TRANSFER_LENGTH);
randomFillSync(source.bytes);

if (device.provider === 'memfd') {
  target.bytes.set(source.bytes);
  steps.push({ step: 'memory → memory, by the CPU', bytes: source.byteLength });
} else {
  await throughDevice(device, source, target);
}
if (options.damage) {
  target.bytes.set([(target.bytes[1234] ?? 0) ^ 1], 1234);
}
const difference = source.bytes.findIndex((byte, index) => byte !== target.bytes[index]);
if (difference !== -1) {
  throw new Error(`what came back differs from what was sent, first at byte ${difference}`);
}
steps.push({ step: 'compared: equal', bytes: target.byteLength });
console.table(steps, ['step', 'bytes', 'bus address', 'interrupts', 'ms']);
