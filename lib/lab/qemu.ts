/**
 * The QEMU process: its streams, its monitor, its end.
 *
 * @module
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { FileHandle } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { LabError } from './errors.js';
import { endsWithUs, missingTool } from './tools.js';

/** The descriptors that QEMU gets from us, in the order of `stdio` below. */
const fd = { log: 3, control: 4, agent: 5, initrd: 6, deviceTree: 7 } as const;

export interface QemuOptions {
  program: string;
  /** What makes the machine and its devices. */
  arguments: readonly string[];
  kernel: string;
  initrd: FileHandle;
  /** Takes the place of the device tree that the machine would have. */
  deviceTree: FileHandle | undefined;
  append: string;
  /** Whether the agent is reached by a virtio port, else by the second serial line. */
  virtio: boolean;
  /** Whether the guest's clock counts instructions. It then has one processor: with more it hangs as it starts them. */
  icount: boolean;
  /** A socket for QEMU's human monitor, for others. */
  monitor?: string | undefined;
}

/** The name of the virtio port on which the agent listens. */
export const agentPort = 'iospace';

function channel(name: 'log' | 'control' | 'agent'): string[] {
  return ['-chardev', `socket,id=${name},fd=${fd[name]}`];
}

function allArguments(options: QemuOptions): string[] {
  const serial = ['-serial', 'chardev:log', ...(options.virtio ? [] : ['-serial', 'chardev:agent'])];
  const port = ['-device', 'virtio-serial-pci', '-device', `virtserialport,chardev=agent,name=${agentPort}`];
  return [
    ...['-nodefaults', '-display', 'none', '-nic', 'none', '-no-reboot'],
    ...options.arguments,
    ...(options.icount
      ? ['-accel', 'tcg,thread=single', '-smp', '1', '-icount', 'shift=0,sleep=off']
      : ['-accel', 'tcg,thread=multi']),
    ...channel('log'),
    ...channel('control'),
    ...channel('agent'),
    ...['-mon', 'chardev=control,mode=control'],
    ...serial,
    ...(options.virtio ? port : []),
    ...(options.deviceTree === undefined ? [] : ['-machine', `dtb=/proc/self/fd/${fd.deviceTree}`]),
    ...['-kernel', options.kernel, '-initrd', `/proc/self/fd/${fd.initrd}`, '-append', options.append],
    ...(options.monitor === undefined
      ? []
      : // A comma in a QEMU option is written twice.
        [
          ...[
            '-chardev',
            `socket,id=monitor,server=on,wait=off,path=${options.monitor.replaceAll(',', ',,')}`,
          ],
          ...['-mon', 'chardev=monitor,mode=readline'],
        ]),
  ];
}

interface Reply {
  return?: unknown;
  error?: { desc: string };
  id?: number;
}

/** A QEMU that runs until {@link Qemu.stop}, and never longer than this process. */
export class Qemu {
  /** The guest's console. */
  readonly log: Duplex;
  /** The line to the guest's agent. */
  readonly agent: Duplex;
  /** Resolves when QEMU has ended, to how it did. Never rejects. */
  readonly ended: Promise<string>;
  readonly #process: ChildProcess;
  readonly #control: Duplex;
  readonly #replies = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #lastCommand = 0;

  constructor(options: QemuOptions) {
    this.#process = spawn('setpriv', [...endsWithUs, options.program, ...allArguments(options)], {
      stdio: [
        'ignore',
        'ignore',
        'pipe',
        'pipe',
        'pipe',
        'pipe',
        options.initrd.fd,
        options.deviceTree?.fd ?? 'ignore',
      ],
      // A Ctrl-C at the terminal is for the program in the guest.
      detached: true,
    });
    const [, , , log, control, agent] = this.#process.stdio as unknown as Duplex[];
    if (log === undefined || control === undefined || agent === undefined) {
      throw new LabError('ERR_IOSPACE_LAB_QEMU', `${options.program} could not be started`);
    }
    this.log = log;
    this.agent = agent;
    this.#control = control;
    for (const stream of [log, control, agent]) {
      // That QEMU has ended is told by `ended`, with the reason.
      stream.on('error', () => {});
    }
    this.ended = this.#watch(options.program);
    createInterface({ input: control })
      .on('line', (line) => this.#receive(JSON.parse(line) as Reply))
      .on('error', () => {});
    this.#execute('qmp_capabilities').catch(() => {});
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  #watch(program: string): Promise<string> {
    let complaint = '';
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-4096);
    });
    return new Promise<string>((resolve) => {
      this.#process.on('error', (error) => resolve(missingTool('setpriv', error).message));
      this.#process.on('close', (code, signal) => {
        const how = signal === null ? `exit code ${code}` : signal;
        resolve(`${program} ended with ${how}${complaint === '' ? '' : `:\n${complaint.trimEnd()}`}`);
      });
    }).then((reason) => {
      for (const { reject } of this.#replies.values()) {
        reject(new LabError('ERR_IOSPACE_LAB_QEMU', reason));
      }
      this.#replies.clear();
      return reason;
    });
  }

  #receive({ id, return: value, error }: Reply): void {
    const waiting = id === undefined ? undefined : this.#replies.get(id);
    if (id === undefined || waiting === undefined) {
      return; // the greeting, or an event
    }
    this.#replies.delete(id);
    if (error === undefined) {
      waiting.resolve(value);
    } else {
      waiting.reject(new LabError('ERR_IOSPACE_LAB_QEMU', `QEMU's monitor: ${error.desc}`));
    }
  }

  #execute(execute: string, parameters?: object): Promise<unknown> {
    const id = ++this.#lastCommand;
    return new Promise((resolve, reject) => {
      this.#replies.set(id, { resolve, reject });
      this.#control.write(`${JSON.stringify({ execute, arguments: parameters, id })}\n`);
    });
  }

  /** What QEMU's human monitor answers to a command. */
  async monitor(command: string): Promise<string> {
    return String(await this.#execute('human-monitor-command', { 'command-line': command })).replaceAll(
      '\r\n',
      '\n',
    );
  }

  /** Ends QEMU, disk images written; by force if it has not ended after 3 seconds. */
  async stop(): Promise<void> {
    this.#execute('quit').catch(() => {});
    const force = setTimeout(() => this.kill(), 3000);
    await this.ended;
    clearTimeout(force);
  }

  /** Ends QEMU at once. */
  kill(): void {
    this.#process.kill('SIGKILL');
  }
}
