/**
 * What host and guest say to each other: frames on a byte stream. The other side is `guest/agent.c`.
 *
 * A frame is a type (1 byte), the number of the run it belongs to (4 bytes), the length of its payload (4 bytes),
 * both little-endian, and the payload.
 *
 * @module
 */

/** The types of frames, host to guest below 16. */
export const frameType = {
  /** Starts a command. Payload: strings, each ended by a zero byte: directory, number of arguments, arguments, environment. */
  start: 1,
  /** Bytes for the command's stdin; none at all ends it. */
  stdin: 2,
  /** A signal for the command and its children. Payload: its number (1 byte). */
  signal: 3,
  /** Asks for everything written to reach its disk; answered by `synced`. */
  sync: 4,

  /** The guest is ready for commands: the first frame, of the run {@link readyMark}. */
  ready: 16,
  stdout: 17,
  stderr: 18,
  /** The command has taken that many bytes of its stdin (4 bytes): as many more may follow. */
  taken: 19,
  /** The command has ended, and everything it wrote has been sent. Payload: exit code, signal (1 byte each). */
  exit: 20,
  synced: 21,
} as const;

/** How many bytes of stdin may be on their way to a command that has not taken them: what the agent stores. */
export const stdinWindow = 65536;

/** The number that stands for a run in the first frame. */
export const readyMark = 0x10_5b_ace0;

const headerLength = 9;
/** More than either side sends. */
const longestPayload = 1 << 20;

export interface Frame {
  type: number;
  run: number;
  payload: Buffer;
}

/** The bytes of a frame. */
export function encodeFrame(type: number, run: number, payload: Uint8Array = new Uint8Array()): Buffer {
  if (payload.length > longestPayload) {
    throw new RangeError(`expected at most ${longestPayload} bytes for a frame, got ${payload.length}`);
  }
  const bytes = Buffer.allocUnsafe(headerLength + payload.length);
  bytes.writeUInt8(type, 0);
  bytes.writeUInt32LE(run, 1);
  bytes.writeUInt32LE(payload.length, 5);
  bytes.set(payload, headerLength);
  return bytes;
}

/**
 * The payload that starts a command.
 *
 * @throws TypeError if a string contains a zero byte, which no system call could take either
 */
export function encodeCommand(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  directory: string,
): Buffer {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const strings = [directory, String(argv.length), ...argv, ...variables];
  if (strings.some((text) => text.includes('\0'))) {
    throw new TypeError('expected arguments and environment without zero bytes');
  }
  return Buffer.from(strings.map((text) => `${text}\0`).join(''));
}

/**
 * Cuts a stream of bytes into frames. What comes before the first frame is dropped: a serial line carries noise
 * until the guest has set it up.
 */
export class FrameDecoder {
  #pending: Buffer = Buffer.alloc(0);
  #begun = false;

  /**
   * Takes the next bytes and returns the frames that are complete with them.
   *
   * @throws Error if the bytes cannot be frames: the two sides are not in step
   */
  push(bytes: Buffer): Frame[] {
    const data = this.#pending.length === 0 ? bytes : Buffer.concat([this.#pending, bytes]);
    const frames: Frame[] = [];
    let offset = 0;
    if (!this.#begun) {
      offset = data.indexOf(encodeFrame(frameType.ready, readyMark));
      this.#begun = offset >= 0;
      if (!this.#begun) {
        this.#pending = data.subarray(-headerLength);
        return frames;
      }
    }
    while (data.length - offset >= headerLength) {
      const length = data.readUInt32LE(offset + 5);
      if (length > longestPayload) {
        throw new Error(`the guest sent a frame of ${length} bytes`);
      }
      const end = offset + headerLength + length;
      if (data.length < end) {
        break;
      }
      frames.push({
        type: data.readUInt8(offset),
        run: data.readUInt32LE(offset + 1),
        payload: data.subarray(offset + headerLength, end),
      });
      offset = end;
    }
    this.#pending = data.subarray(offset);
    return frames;
  }
}
