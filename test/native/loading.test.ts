/** The addon in several environments of one process, and where there is none. */
import { createRequire } from 'node:module';
import { describe, expect, test, vi } from 'vitest';
import { binding } from '../../lib/binding.js';
import { prelude, run, said } from './support.js';

describe('the addon', () => {
  test('is loaded once for each environment', () => {
    expect(binding()).toBe(binding());
  });

  test('works in many workers at once, one after the other, and in workers of workers', async () => {
    const use = `
      const mapping = map();
      const bytes = new Uint8Array(mapping.buffer()).fill(require('worker_threads').threadId);
      const poller = new native.Poller(native.eventfd(1, 0), () => {
        poller.close();
        try { native.open('/nope', 0, 0); } catch (error) {
          require('worker_threads').parentPort.postMessage([error.errno, bytes[8191] === require('worker_threads').threadId]);
        }
        mapping.release(true);
      });
      poller.start();
    `;
    const body = JSON.stringify(`${prelude}\n${use}`);
    const nested = JSON.stringify(`
      const { parentPort, Worker } = require('worker_threads');
      new Worker(${body}, { eval: true }).on('message', (message) => parentPort.postMessage(message));
    `);
    const ended = await run(`
      const { Worker } = require('worker_threads');
      const { once } = require('events');
      const use = async (body) => {
        const worker = new Worker(body, { eval: true });
        const [[message], [code]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
        return [...message, code].join();
      };
      (async () => {
        for (let round = 0; round < 2; round++)
          console.log(...await Promise.all([use(${body}), use(${body}), use(${body}), use(${nested})]));
      })();
    `);
    expect(ended).toEqual(said('-2,true,0 -2,true,0 -2,true,0 -2,true,0\n'.repeat(2)));
  });

  test('can be terminated anywhere', async () => {
    const busy = JSON.stringify(`${prelude}
      const poller = new native.Poller(native.eventfd(1, 0), () => {});
      poller.start();
      const held = [];
      setInterval(() => {
        for (let index = 0; index < 100; index++) {
          const mapping = map();
          mapping.buffer();
          if (index % 3 === 0) mapping.release(true);
          else if (index % 3 === 1) held[index] = mapping;
          try { native.open('/nope', 0, 0); } catch {}
        }
      });
    `);
    const ended = await run(`
      const { Worker } = require('worker_threads');
      const { once } = require('events');
      (async () => {
        for (let round = 0; round < 12; round++) {
          const workers = Array.from({ length: 4 }, () => new Worker(${busy}, { eval: true, stdout: true }));
          await Promise.all(workers.map((worker) => once(worker, 'online')));
          await new Promise((resolve) => setTimeout(resolve, 10 * round));
          await Promise.all(workers.map((worker) => worker.terminate()));
        }
        console.log('end');
      })();
    `);
    expect(ended).toEqual(said('end\n'));
  });

  test('can be ended in a native wait within its 100 ms', async () => {
    const body = JSON.stringify(`${prelude}
      require('worker_threads').parentPort.postMessage('there');
      for (;;) native.poll(new Int32Array(0), new Int16Array(0), new Int16Array(0), 100000);
    `);
    const ended = await run(`
      const { Worker } = require('worker_threads');
      const worker = new Worker(${body}, { eval: true });
      worker.on('message', async () => {
        const begin = performance.now();
        await worker.terminate();
        console.log(performance.now() - begin < 1000);
      });
    `);
    expect(ended).toEqual(said('true\n'));
  });

  test('says so when it is used before initialize()', async () => {
    const ended = await run(`
      new (require('worker_threads').Worker)(
        'const native = require(' + JSON.stringify(Object.keys(require.cache).find((name) => name.endsWith('.node'))) + ');' +
        'try { native.open("/nope", 0, 0); } catch (error) { console.log(error.code); }', { eval: true });
    `);
    expect(ended).toEqual(said('ERR_INVALID_STATE\n'));
  });
});

describe('where the addon cannot be loaded', () => {
  const load = async () => {
    vi.resetModules();
    const { binding } = await import('../../lib/binding.js');
    return binding;
  };

  test('the error says how to build it', async () => {
    const cause = new Error('nowhere');
    // It is loaded when it is needed, by require().
    const require = createRequire(import.meta.url);
    const original: unknown = require('bindings');
    const loaded = require.cache[require.resolve('bindings')] as NodeJS.Module;
    loaded.exports = () => {
      throw cause;
    };
    const binding = await load();
    expect(binding).toThrow(
      expect.objectContaining({
        code: 'ERR_IOSPACE_ADDON',
        message: expect.stringContaining('npx iospace build'),
        cause,
      }),
    );
    loaded.exports = original;
  });

  test('the error says that only Linux will do', async () => {
    const platform = vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin');
    const binding = await load();
    expect(binding).toThrow(
      expect.objectContaining({ code: 'ERR_IOSPACE_ADDON', message: expect.stringMatching(/Linux.*darwin/) }),
    );
    platform.mockRestore();
  });
});
