// The Node.js example, examples/consumer-node, reads the streams of a whole cluster (muster dev), is killed in the middle, and
// has handled every event exactly once in the end.
//
// It needs the muster binary (MUSTER), a redis-server or the stand-in that muster dev brings, and ioredis beside this file.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import Redis from 'ioredis';

const SHARDS = 4;
const GROUP = 'test';
const DEADLINE_SECONDS = 90; // far more than a loaded machine needs

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

async function until(what, probe) {
  const deadline = Date.now() + DEADLINE_SECONDS * 1000;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_SECONDS} s`);
    await pause(20);
  }
}

/** Starts a program that ends with the test. */
function start(t, command, args, options) {
  const child = spawn(command, args, options);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  t.after(async () => {
    child.kill('SIGTERM');
    await Promise.race([ended, pause(20_000, undefined, { ref: false })]);
    child.kill('SIGKILL');
  });
  return { child, ended };
}

/** Starts a cluster and returns the URL of its Redis. */
async function startCluster(t) {
  const args = ['dev', '--workers', '1', '--shards', String(SHARDS), '--guilds', '20', '--rate', '200', '--listen', '127.0.0.1:0'];
  const { child } = start(t, process.env.MUSTER, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /redis:\/\/[\d.:]+/.exec(line);
    if (url) {
      child.stdout.resume(); // a full pipe would stop it
      return url[0];
    }
  }
  throw new Error('muster dev ended');
}

test('the example handles every event once, in order, though it is killed', { timeout: 4 * DEADLINE_SECONDS * 1000 }, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'consumer-'));
  t.after(() => rmSync(dir, { recursive: true }));
  copyFileSync(here('../../examples/consumer-node/consumer.mjs'), join(dir, 'consumer.mjs'));
  symlinkSync(here('node_modules'), join(dir, 'node_modules'));

  const url = await startCluster(t);
  const redis = new Redis(url);
  t.after(() => redis.disconnect());
  const key = (shard, what) => `dev:{${shard}}:${what}`;
  const shards = [...Array(SHARDS).keys()];
  const env = { ...process.env, REDIS_URL: url, MUSTER_CLUSTER: 'dev', GROUP, FROM: '0' };
  const consume = () => start(t, process.execPath, ['consumer.mjs'], { cwd: dir, env, stdio: 'inherit' });
  const counts = async (shard) => Object.values(await redis.hgetall(key(shard, `counts:${GROUP}`))).reduce((sum, n) => sum + Number(n), 0);
  const handled = async () => (await Promise.all(shards.map(counts))).reduce((sum, n) => sum + n, 0);

  // One that is gone while it has entries in hand, as if killed: the next one must claim them.
  await until('the first entries', async () => (await redis.xlen(key(0, 'events'))) > 10);
  await redis.xgroup('CREATE', key(0, 'events'), GROUP, '0');
  await redis.xreadgroup('GROUP', GROUP, 'gone', 'COUNT', 5, 'STREAMS', key(0, 'events'), '>');

  const first = consume();
  await until('the first consumer', async () => (await handled()) > 200);
  first.child.kill('SIGKILL');
  await first.ended;
  const before = await handled();
  const second = consume();
  await until('the second consumer', async () => (await handled()) > before + 500);
  second.child.kill('SIGTERM');
  assert.equal(await second.ended, 0, 'its exit code');

  for (const shard of shards) {
    const done = await redis.get(key(shard, `done:${GROUP}`));
    const entries = await redis.xrange(key(shard, 'events'), '-', done);
    assert.equal(entries.at(-1)[0], done);
    assert.equal(await counts(shard), entries.length, `shard ${shard}: what was counted, of ${entries.length} entries`);
    const [pending] = await redis.xpending(key(shard, 'events'), GROUP);
    assert.equal(pending, 0, `shard ${shard}: entries that are not acknowledged`);
    assert.equal(await redis.xlen(key(shard, `events:dead:${GROUP}`)), 0, `shard ${shard}: dead letters`);
  }
});
