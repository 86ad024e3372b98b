import { describe, expect, test } from 'vitest';
import { encodeCommand, encodeFrame, FrameDecoder, frameType, readyMark } from '../../../lib/lab/frames.js';

const ready = encodeFrame(frameType.ready, readyMark);

/** A decoder that has seen the first frame. */
function decoder(): FrameDecoder {
  const made = new FrameDecoder();
  made.push(ready);
  return made;
}

describe('frames', () => {
  test('come out as they went in', () => {
    const payload = Buffer.from('out');
    const bytes = encodeFrame(frameType.stdout, 0xffffffff, payload);
    expect(decoder().push(bytes)).toEqual([{ type: frameType.stdout, run: 0xffffffff, payload }]);
  });

  test('come out whole, wherever the stream is cut', () => {
    const bytes = Buffer.concat(
      [1, 2, 3].map((run) => encodeFrame(frameType.stderr, run, Buffer.alloc(run * 7, run))),
    );
    for (let length = 1; length <= bytes.length; length++) {
      const cut = decoder();
      const frames = [];
      for (let offset = 0; offset < bytes.length; offset += length) {
        frames.push(...cut.push(bytes.subarray(offset, offset + length)));
      }
      expect(frames.map(({ run, payload }) => [run, payload.length])).toEqual([
        [1, 7],
        [2, 14],
        [3, 21],
      ]);
    }
  });

  test('begin after the noise of a serial line, even in small pieces', () => {
    const noisy = new FrameDecoder();
    const frames = [];
    for (const byte of Buffer.concat([
      Buffer.from([0x58, 0, 0xff, 16, 16]),
      ready,
      encodeFrame(frameType.synced, 0),
    ])) {
      frames.push(...noisy.push(Buffer.of(byte)));
    }
    expect(frames.map(({ type }) => type)).toEqual([frameType.ready, frameType.synced]);
  });

  test('of absurd length are refused: the sides are not in step', () => {
    const header = Buffer.alloc(9, 0xff);
    expect(() => decoder().push(header)).toThrow('the guest sent a frame of 4294967295 bytes');
    expect(() => encodeFrame(frameType.stdin, 1, Buffer.alloc((1 << 20) + 1))).toThrow(RangeError);
  });
});

describe('a command', () => {
  test('is its directory, arguments and environment', () => {
    const payload = encodeCommand(['echo', 'a b', ''], { X: 'y=z' }, '/tmp');
    expect(payload.toString()).toBe('/tmp\0' + '3\0' + 'echo\0' + 'a b\0' + '\0' + 'X=y=z\0');
  });

  test('has no zero bytes', () => {
    expect(() => encodeCommand(['a\0b'], {}, '/')).toThrow(TypeError);
  });
});
