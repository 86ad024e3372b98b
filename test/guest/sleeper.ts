/** A process that sleeps on words of shared memory until it is woken, and then takes a mutex, which it keeps. */
import { futex, Mutex, posix } from 'iospace/shm';

const say = (what: unknown) => process.send?.(what);

const memory = posix.open(process.argv[2] ?? '');
const words = memory.view(Int32Array);

say('there');
const outcomes: string[] = [futex.wait(words, 0, 0)];
outcomes.push(...(await Promise.all([1, 2, 3].map((word) => futex.waitAsync(words, word, 0)))));
say(outcomes);
new Mutex(words, 4, memory.fd).lock();
say('locked');
setInterval(() => memory, 1000);
