/**
 * QEMU's gdb stub: a machine that stands still while its registers and its physical memory are read. The guest takes no
 * part in it and cannot tell.
 *
 * The protocol is that of "Appendix E: GDB Remote Serial Protocol" of gdb's manual, with QEMU's own packet for physical
 * memory.
 */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Machine } from '../lib/lab/index.js';

/** Bytes of memory in one answer: half of what QEMU's packets hold, for each byte is two digits. */
const CHUNK = 2000;

/** A machine that stands still. */
export interface StoppedMachine {
  /** The processors, by the names that {@link StoppedMachine.register} takes. */
  readonly processors: readonly string[];
  /** A register of a processor: `cr3`, `TTBR0_EL1`, `satp`. Throws for one that it does not have. */
  register(processor: string, name: string): Promise<bigint>;
  /** Physical memory, where there is some. */
  read(physical: bigint, byteLength: number): Promise<Buffer>;
}

/** The packets of one connection. */
class Packets {
  readonly #socket: Socket;
  #text = '';
  #arrived: () => void = () => {};
  #ended = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#text += text;
      this.#arrived();
    });
    // What an end means is told to whoever asks.
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#ended = true;
      this.#arrived();
    });
  }

  async ask(packet: string): Promise<string> {
    const sum = [...packet].reduce((total, character) => total + character.charCodeAt(0), 0) & 0xff;
    this.#socket.write(`+$${packet}#${sum.toString(16).padStart(2, '0')}`);
    for (;;) {
      const [whole, payload] = /^\+*\$([^#]*)#../s.exec(this.#text) ?? [];
      if (whole !== undefined && payload !== undefined) {
        this.#text = this.#text.slice(whole.length);
        // That the machine has stopped is told unasked, by some versions of QEMU.
        if (payload.startsWith('T')) {
          continue;
        }
        if (/^E\d\d$/.test(payload)) {
          throw new Error(`QEMU's gdb stub answers ${payload} to ${packet}`);
        }
        // What the protocol itself uses is escaped.
        return payload.replace(/\}(.)/gs, (_, c: string) => String.fromCharCode(c.charCodeAt(0) ^ 0x20));
      }
      if (this.#ended) {
        throw new Error(`QEMU's gdb stub hung up at ${packet}`);
      }
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
      });
    }
  }

  /** A document that comes in pieces: `l` before the last, `m` before the others. */
  async document(name: string): Promise<string> {
    let text = '';
    for (;;) {
      const piece = await this.ask(`qXfer:features:read:${name}:${text.length.toString(16)},7f0`);
      text += piece.slice(1);
      if (piece[0] !== 'm') {
        return text;
      }
    }
  }
}

/** The numbers of the registers, by name. They count on where the description gives none. */
async function describedRegisters(packets: Packets): Promise<Map<string, number>> {
  const registers = new Map<string, number>();
  const [...files] = (await packets.document('target.xml')).matchAll(/<xi:include href="([^"]+)"/g);
  let next = 0;
  for (const [, file = ''] of files) {
    const text = (await packets.document(file)).replace(/<!--.*?-->/gs, '');
    for (const [register] of text.matchAll(/<reg [^>]*>/g)) {
      const [, name = ''] = /\bname="([^"]+)"/.exec(register) ?? [];
      const number = Number(/\bregnum="(\d+)"/.exec(register)?.[1] ?? next);
      registers.set(name, number);
      next = number + 1;
    }
  }
  return registers;
}

async function processorsOf(packets: Packets): Promise<string[]> {
  const processors: string[] = [];
  for (let answer = await packets.ask('qfThreadInfo'); answer !== 'l'; ) {
    processors.push(...answer.slice(1).split(','));
    answer = await packets.ask('qsThreadInfo');
  }
  return processors;
}

/** The gdb stub of a machine. */
export class GdbStub {
  readonly #machine: Machine;
  #directory: string | undefined;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Stops the machine, lets `look` look at it, and lets it go on. Not twice at a time. */
  async whileStopped<Result>(look: (stopped: StoppedMachine) => Promise<Result>): Promise<Result> {
    const socket = connect(await this.#listen());
    await once(socket, 'connect');
    const packets = new Packets(socket);
    try {
      const registers = await describedRegisters(packets);
      const processors = await processorsOf(packets);
      await packets.ask('Qqemu.PhyMemMode:1');
      return await look({
        processors,
        async register(processor, name) {
          const number = registers.get(name);
          if (number === undefined) {
            throw new Error(`no register ${name}; there are ${[...registers.keys()].join(' ')}`);
          }
          await packets.ask(`Hg${processor}`);
          const digits = await packets.ask(`p${number.toString(16)}`);
          return Buffer.from(digits.padEnd(16, '0'), 'hex').readBigUInt64LE();
        },
        async read(physical, byteLength) {
          const pieces: string[] = [];
          for (let offset = 0; offset < byteLength; offset += CHUNK) {
            const address = (physical + BigInt(offset)).toString(16);
            pieces.push(
              await packets.ask(`m${address},${Math.min(CHUNK, byteLength - offset).toString(16)}`),
            );
          }
          return Buffer.from(pieces.join(''), 'hex');
        },
      });
    } finally {
      // The machine goes on.
      await packets.ask('D').catch(() => {});
      const closed = once(socket, 'close');
      socket.end();
      await closed;
    }
  }

  /** Ends it. The machine may have ended before. */
  async close(): Promise<void> {
    if (this.#directory !== undefined) {
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async #listen(): Promise<string> {
    if (this.#directory === undefined) {
      this.#directory = await mkdtemp(join(tmpdir(), 'iospace-gdb-'));
      const said = await this.#machine.monitor(`gdbserver unix:${this.#directory}/gdb,server=on,wait=off`);
      if (!said.startsWith('Waiting for gdb connection')) {
        throw new Error(`QEMU has no gdb stub: ${said}`);
      }
    }
    return join(this.#directory, 'gdb');
  }
}
