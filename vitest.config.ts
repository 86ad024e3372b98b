import { defineConfig } from 'vitest/config';

/** Five projects, each runnable alone: `npx vitest run --project unit`. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          // Many start programs, which take their time on a busy machine.
          testTimeout: 30_000,
        },
      },
      // In Debian's Chromium.
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      { test: { name: 'native', include: ['test/native/**/*.test.ts'], pool: 'forks' } },
      { test: { name: 'package', include: ['test/package/**/*.test.ts'], testTimeout: 300_000 } },
      {
        test: {
          name: 'lab',
          include: ['test/lab/**/*.test.ts', 'test/guest.test.ts'],
          // What a test runs has its own limits, and says more when they are reached.
          testTimeout: 1_800_000,
          hookTimeout: 900_000,
          // Each file boots emulated machines, which use both cores.
          fileParallelism: false,
        },
      },
    ],
  },
});
