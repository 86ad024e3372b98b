#!/usr/bin/env node
/**
 * The `iospace` command.
 *
 * @module
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { packageRoot } from '../package-root.js';
import { addArenaCommands } from './arena.js';
import { addBenchCommand } from './bench.js';
import { addBuildCommand } from './build.js';
import { addLabCommands } from './lab.js';
import { addShmCommands } from './shm.js';

const { version, description } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
  version: string;
  description: string;
};

const program = new Command('iospace').description(description).version(version).enablePositionalOptions();
addBuildCommand(program);
addLabCommands(program);
addArenaCommands(program);
addShmCommands(program);
addBenchCommand(program);
await program.parseAsync();
