/**
 * How things end: each stage of a program's life is one at which its process exits, its worker is terminated,
 * or nobody cares any more. None of them may crash, hang, or report what is no leak.
 */
import { describe, expect, test } from 'vitest';
import { nodeMajor, prelude, run, said } from './support.js';

const stages: readonly (readonly [name: string, program: string])[] = [
  ['loaded', ''],
  ['mapped', 'globalThis.kept = map();'],
  ['given its buffer', 'globalThis.kept = map(); kept.buffer();'],
  ['with its buffer alone', 'globalThis.kept = new Uint8Array(map().buffer()).fill(1);'],
  ['released', 'globalThis.kept = map(); kept.buffer(); kept.release(true);'],
  ['renewed', 'globalThis.kept = map(); kept.buffer(); kept.renew(true);'],
  [
    'renewed and given its next buffer',
    'globalThis.kept = map(); kept.buffer(); kept.renew(true); kept.buffer();',
  ],
  [
    'released without detaching',
    'globalThis.kept = map(); globalThis.bytes = kept.buffer(); kept.release(false);',
  ],
  ['shared', 'const mapped = map(); globalThis.kept = mapped.sharedBuffer() ?? mapped;'],
  [
    'shared, released and copied',
    'const mapped = map(); globalThis.kept = mapped.sharedBuffer() ?? 0; mapped.release(true); globalThis.copy = structuredClone(kept);',
  ],
  ['transferred', 'globalThis.kept = map(); globalThis.moved = kept.buffer().transfer?.();'],
  ['mapped a thousand times', 'globalThis.kept = Array.from({ length: 1000 }, () => map().buffer());'],
  [
    'with registers',
    `const fd = native.memfdCreate('r', 0);
     native.ftruncate(fd, 8192);
     globalThis.kept = new native.Registers(fd, 0, { byteLength: 4096, mmapOffset: 4096n, pageOffset: 0 });
     kept.read32(0);`,
  ],
  ['with a poller', 'globalThis.kept = new native.Poller(native.eventfd(0, 0), () => {});'],
  ['watching', 'globalThis.kept = new native.Poller(native.eventfd(0, 0), () => {}); kept.start();'],
  [
    'called back all the time',
    'globalThis.kept = new native.Poller(native.eventfd(1, 0), () => {}); kept.start();',
  ],
  [
    'with a closing poller',
    'globalThis.kept = new native.Poller(native.eventfd(1, 0), () => {}); kept.start(); kept.close();',
  ],
];

describe.each(stages)('%s,', (_name, program) => {
  test('the process exits', async () => {
    expect(await run(`${program}\nsetTimeout(() => process.exit(0), 10);`)).toEqual(said(''));
  });

  test('the process ends by an exception', async () => {
    const ended = await run(`${program}\nsetTimeout(() => { throw new Error('the end'); }, 10);`);
    expect(ended).toMatchObject({ code: 1, signal: null, stdout: '' });
  });

  test('the process ends by itself', async () => {
    expect(await run(`${program}\nsetTimeout(() => globalThis.kept?.close?.(), 10);`)).toEqual(said(''));
  });

  test('eight workers are terminated', async () => {
    const body = `${prelude}\n${program}\nrequire('worker_threads').parentPort.postMessage('there'); setInterval(() => {}, 1000);`;
    const ended = await run(`
      const { Worker } = require('worker_threads');
      const { once } = require('events');
      (async () => {
        for (let round = 0; round < 2; round++) {
          const workers = Array.from({ length: 8 }, () => new Worker(${JSON.stringify(body)}, { eval: true }));
          await Promise.all(workers.map((worker) => once(worker, 'message')));
          console.log(...await Promise.all(workers.map((worker) => worker.terminate())));
        }
      })();
    `);
    expect(ended).toEqual(said('1 1 1 1 1 1 1 1\n'.repeat(2)));
  });

  test('a worker ends by itself', async () => {
    const body = `${prelude}\n${program}\nsetTimeout(() => process.exit(3), 10);`;
    const ended = await run(`
      const { Worker } = require('worker_threads');
      new Worker(${JSON.stringify(body)}, { eval: true }).on('exit', (code) => console.log(code));
    `);
    expect(ended).toEqual(said('3\n'));
  });
});

describe('transferred to another thread', () => {
  // Node 20 has no transfer(), and copies what it posts.
  test.runIf(nodeMajor >= 22).each([
    ['a worker that exits', '', false],
    ['a worker that is terminated', 'setInterval(() => {}, 1000);', true],
    ['a worker that released the mapping, and exits', 'mapping.release(true);', false],
    [
      'a worker that released the mapping, and is terminated',
      'mapping.release(true); setInterval(() => {}, 1000);',
      true,
    ],
  ])('the bytes outlive %s, as zero memory of their own', async (_which, program, terminated) => {
    const body = `${prelude}
      const mapping = map();
      new Uint8Array(mapping.buffer()).fill(7);
      const moved = mapping.buffer().transfer();
      require('worker_threads').parentPort.postMessage(moved, [moved]);
      ${program}`;
    const ended = await run(`
      const { Worker } = require('worker_threads');
      const { once } = require('events');
      (async () => {
        const worker = new Worker(${JSON.stringify(body)}, { eval: true });
        const exited = once(worker, 'exit');
        let bytes = new Uint8Array((await once(worker, 'message'))[0]);
        if (${terminated}) worker.terminate();
        await exited;
        console.log(bytes[0], bytes[8191]);
        const others = Array.from({ length: 2000 }, () => map());
        bytes.fill(1);
        console.log(others.some((other) => new Uint8Array(other.buffer()).includes(1)), bytes[8191]);
        for (const other of others) other.release(true);
        bytes = undefined;
        await collect();
      })();
    `);
    expect(ended).toEqual(said('0 0\nfalse 1\n'));
  });
});

describe('collected', () => {
  test.each([
    ['a mapping without buffer is reported', 'map();', 'leaked mapping at ADDRESS 8192\n'],
    ['a mapping with its buffer is reported', 'map().buffer();', 'leaked mapping at ADDRESS 8192\n'],
    [
      'a mapping and its buffer that keep each other are reported',
      'const m = map(); globalThis.owners = new WeakMap([[m.buffer(), m]]); m.kept = m.buffer();',
      'leaked mapping at ADDRESS 8192\n',
    ],
    ['a released mapping is not', 'map().release(true);', ''],
    ['a released mapping with its buffer is not', 'const m = map(); m.buffer(); m.release(true);', ''],
    [
      'a mapping released under its marked buffer is not',
      'const m = map(); m.buffer(); m.release(false);',
      '',
    ],
    ['a mapping whose creation failed is not', 'try { native.mmap(-1, 1, 1, 1, 0n); } catch {}', ''],
  ])('%s', async (_name, program, stdout) => {
    expect(await run(`(() => { ${program} })(); collect();`)).toEqual(said(stdout));
  });

  test('while its buffer lives, a mapping is not', async () => {
    const ended = await run(`
      let bytes = (() => new Uint8Array(map().buffer()).fill(5))();
      (async () => {
        await collect();
        console.log(bytes[0], bytes[8191]);
        bytes = undefined;
        await collect();
        console.log('end');
      })();
    `);
    expect(ended).toEqual(said('5 5\nleaked mapping at ADDRESS 8192\nend\n'));
  });

  test('a mapping leaves nothing mapped', async () => {
    const ended = await run(`
      native.initialize({ systemError: Error, leaked() {} });
      (() => { for (let index = 0; index < 100; index++) map().buffer(); })();
      collect().then(() => console.log(require('fs').readFileSync('/proc/self/maps', 'utf8').includes('iospace-test')));
    `);
    expect(ended).toEqual(said('false\n'));
  });

  test('registers leave nothing mapped', async () => {
    const ended = await run(`
      (() => {
        const fd = native.memfdCreate('iospace-test', 0);
        native.ftruncate(fd, 8192);
        for (let index = 0; index < 10; index++)
          new native.Registers(fd, 0, { byteLength: 4096, mmapOffset: 4096n, pageOffset: 0 });
      })();
      collect().then(() => console.log(require('fs').readFileSync('/proc/self/maps', 'utf8').includes('iospace-test')));
    `);
    expect(ended).toEqual(said('false\n'));
  });

  test('what the report throws is an uncaught exception', async () => {
    const ended = await run(`
      native.initialize({ systemError: Error, leaked() { throw new Error('from the report'); } });
      process.on('uncaughtException', (error) => console.log(error.message));
      (() => { map(); })();
      collect();
    `);
    expect(ended).toEqual(said('from the report\n'));
  });
});

describe('where memory is exhausted', () => {
  test('mmap() fails with ENOMEM, and succeeds again after release', async () => {
    const ended = await run(`
      const held = [];
      const size = 64 * 1024 * 1024 * 1024;
      const fd = native.memfdCreate('large', 0);
      native.ftruncate(fd, size);
      let failure;
      try {
        for (;;) held.push(native.mmap(fd, size, 3, 1, 0n));
      } catch (error) {
        failure = error;
      }
      console.log(failure.syscall, failure.errno, held.length > 100);
      for (const mapping of held) mapping.release(true);
      native.mmap(fd, size, 3, 1, 0n).release(true);
      console.log('again');
    `);
    expect(ended).toEqual(said('mmap -12 true\nagain\n'));
  });

  test.runIf(nodeMajor < 22)(
    'a buffer beyond 4 GiB is refused, and nothing is freed twice (Node 20)',
    async () => {
      const ended = await run(`
      const size = 5 * 1024 ** 3;
      const fd = native.memfdCreate('large', 0);
      native.ftruncate(fd, size);
      (async () => {
        const mapping = native.mmap(fd, size, 3, 1, 0n);
        for (let count = 0; count < 2; count++) {
          try { mapping.buffer(); } catch (error) { console.log(error.code); }
          await turns(3);
        }
        console.log(mapping.released);
        mapping.sync(4, 0, 4096);
        const others = Array.from({ length: 50 }, () => map());
        mapping.release(true);
        await turns(3);
        for (const other of others) {
          new Uint8Array(other.buffer()).fill(1);
          other.release(true);
        }
      })();
    `);
      expect(ended).toMatchObject(said('ERR_BUFFER_TOO_LARGE\nERR_BUFFER_TOO_LARGE\nfalse\n'));
    },
  );
});
