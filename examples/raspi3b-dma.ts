/**
 * Copies 64 KiB with the DMA controller of a Raspberry Pi 3, which sees memory 0xC0000000 above where the CPU does.
 *
 *     npx iospace lab run --machine raspi3b --bind 3f007000.dma -- node build/examples/raspi3b-dma.js
 *
 * From 6.12 on the kernel's device tree calls the controller 3f007000.dma-controller.
 */
import { randomFillSync } from 'node:crypto';
import { DmaDevice, listDevices } from 'iospace';

// BCM2835 ARM Peripherals, chapter 4. Channel 5 is one that the firmware leaves to Linux.
const CHANNEL = 5;
const CONTROL_STATUS = CHANNEL * 0x100;
const CONTROL_BLOCK_ADDRESS = CONTROL_STATUS + 4;
const ACTIVE = 1 << 0;
const END = 1 << 1;
const INTERRUPT = 1 << 2;
const TRANSFER = (1 << 0) | (1 << 4) | (1 << 8); // interrupt when done; destination and source advance
const LENGTH = 64 * 1024;

const controller = listDevices().find(({ device }) => device.startsWith('3f007000.'));
if (controller === undefined) {
  throw new Error('the DMA controller is not bound to iospace');
}
using device = DmaDevice.open(controller.name);
const registers = device.registers(0);
using source = device.alloc(LENGTH);
using target = device.alloc(LENGTH);
using controlBlock = device.alloc(32);
randomFillSync(source.bytes);

const addresses = [source.dmaAddress, target.dmaAddress].map(Number);
controlBlock.view(Uint32Array).set([TRANSFER, ...addresses, LENGTH]);
controlBlock.syncForDevice();
registers.write32(CONTROL_BLOCK_ADDRESS, Number(controlBlock.dmaAddress));
registers.write32(CONTROL_STATUS, ACTIVE);
const { count } = await device.waitForInterrupt({ vector: `dma${CHANNEL}`, timeout: 10_000 });
registers.write32(CONTROL_STATUS, END | INTERRUPT);
target.syncForCpu();

if (Buffer.compare(source.bytes, target.bytes) !== 0) {
  throw new Error('what was copied differs from its source');
}
console.log(
  `${LENGTH} bytes copied from 0x${source.dmaAddress.toString(16)} to 0x${target.dmaAddress.toString(16)}, ${count} interrupt`,
);
