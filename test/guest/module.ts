/** The kernel module as this machine has loaded it, and loading it again. Nothing may have a device open meanwhile. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { findEdu } from './edu.js';

const { dmaMask } = findEdu();

/** Its parameters, those that have a value. */
export const parameters = readdirSync('/sys/module/iospace/parameters')
  .map((key) => ({ key, value: readFileSync(`/sys/module/iospace/parameters/${key}`, 'utf8').trim() }))
  .filter(({ value }) => value !== '(null)' && value !== '');

const run = (program: string, ...words: string[]) => spawnSync(program, words, { encoding: 'utf8' });

export function unload(): void {
  const { status, stderr } = run('rmmod', 'iospace');
  if (status !== 0) {
    throw new Error(`rmmod: ${stderr}`);
  }
}

/** With these parameters alone. */
export function load(...words: string[]): SpawnSyncReturns<string> {
  return run('insmod', '/lab/iospace.ko', ...words);
}

/** As it was loaded at first, but for what `changes` says. */
export function loadAgain(changes: Readonly<Record<string, string | number>> = {}): void {
  const merged = { ...Object.fromEntries(parameters.map(({ key, value }) => [key, value])), ...changes };
  const { status, stderr } = load(...Object.entries(merged).map(([key, value]) => `${key}=${value}`));
  if (status !== 0) {
    throw new Error(`insmod: ${stderr}`);
  }
  setMask();
}

/** After the device was bound again: it says nothing of its mask itself. */
export function setMask(): void {
  writeFileSync(`/sys/class/misc/${findEdu().name}/dma_mask`, `0x${dmaMask.toString(16)}`);
}

/** The kernel's log. */
export function kernelLog(): string {
  return run('dmesg').stdout;
}
