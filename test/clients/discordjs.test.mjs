// discord.js's gateway library against the simulated Discord: how its sessions begin, go on and end.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { WebSocketShardStatus } from '@discordjs/ws';

import { Bot } from './discordjs.mjs';
import { Simulator, UNPRIVILEGED_INTENTS, until } from './sim.mjs';

/** The shard that a guild is on, by Discord's formula. */
const shardOf = (guild, total) => Number((BigInt(guild) >> 22n) % BigInt(total));

describe('@discordjs/ws: sessions', { concurrency: true, timeout: 300_000 }, () => {
  test('four shards identify in two buckets, get READY, their guilds and events', async (t) => {
    const sim = await Simulator.start(t, { shards: 4, 'max-concurrency': 2, guilds: 40, rate: 400 });
    const bot = await Bot.connect(sim);
    await bot.received.guilds(4);

    const guilds = new Set();
    for (let shard = 0; shard < 4; shard++) {
      const [ready] = bot.received.of(shard, 'READY');
      assert.equal(ready.s, 1);
      assert.equal(ready.d.v, 10);
      assert.deepEqual(ready.d.shard, [shard, 4]);
      const promised = ready.d.guilds.map(({ id }) => id);
      const created = bot.received.of(shard, 'GUILD_CREATE').map(({ d }) => d.id);
      assert.deepEqual(created.slice(0, promised.length).sort(), promised.sort());
      for (const guild of promised) assert.equal(shardOf(guild, 4), shard, `shard of guild ${guild}`);
      promised.forEach((guild) => guilds.add(guild));
      await bot.flow(shard);
      await bot.received.await(1, shard, 'MESSAGE_CREATE');
    }
    assert.equal(guilds.size, 40);

    const sessions = await bot.received.audit(sim);
    const buckets = sessions.map(({ shard }) => shard % 2);
    assert(buckets[0] !== buckets[1] && buckets[2] !== buckets[3], `two buckets side by side, not ${buckets}`);
    await bot.stop();
    await until('every session closed for good', async () =>
      (await sim.sessions()).every(({ ended }) => ended === 'client closed with 1000 or 1001'),
    );
  });

  test('a dropped connection is resumed, and what was missed is replayed', async (t) => {
    const sim = await Simulator.start(t, { shards: 2, 'max-concurrency': 2, guilds: 20, rate: 200 });
    const bot = await Bot.connect(sim);
    for (let round = 1; round <= 3; round++) {
      await bot.flow();
      assert.equal(await sim.drop(0), 1);
      await bot.await(round, 'resumes');
    }
    await bot.flow();
    await bot.received.audit(sim);
    assert.deepEqual(bot.shard(0).closes, [1006, 1006, 1006]);
    assert.deepEqual(bot.shard(1).closes, []);
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [2, 3, 0]);
    assert.equal(stats.resumes_on_base_url, 0);
    assert(stats.replayed > 0, 'nothing was replayed');
  });

  test('op 7 is followed by a resume', async (t) => {
    const sim = await Simulator.start(t, { guilds: 20, rate: 200 });
    const bot = await Bot.connect(sim);
    for (let round = 1; round <= 3; round++) {
      await bot.flow();
      assert.equal(await sim.reconnect(0), 1);
      await bot.await(round, 'resumes');
    }
    await bot.flow();
    await bot.received.audit(sim);
    assert.deepEqual(bot.shard(0).closes, [4200, 4200, 4200], 'codes that the library closed with');
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [1, 3, 0]);
  });

  test('op 9 true is followed by a resume on the same connection', async (t) => {
    const sim = await Simulator.start(t, { guilds: 20, rate: 200 });
    const bot = await Bot.connect(sim);
    await bot.flow();
    // The library resumes from before what it received in the same packet as op 9, and would receive that again.
    await bot.received.settle(sim);
    assert.equal(await sim.invalidate(true, 0), 1);
    await until('resume or close', () => bot.shard(0).resumes + bot.shard(0).closes.length > 0);
    assert.deepEqual(bot.shard(0).closes, []);
    await sim.rate(200);
    await bot.flow();
    await bot.received.audit(sim);
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [1, 1, 0]);
  });

  test('op 9 false is followed by a new identify', async (t) => {
    const sim = await Simulator.start(t, { guilds: 20, rate: 200 });
    const bot = await Bot.connect(sim);
    await bot.received.guilds(1);
    await bot.flow();
    await bot.received.settle(sim); // what is on its way when a session ends is lost
    assert.equal(await sim.invalidate(false, 0), 1);
    await bot.await(2, 'readies');
    await sim.rate(200);
    await bot.received.guilds(1);
    await bot.flow();
    const sessions = await bot.received.audit(sim);
    assert.deepEqual(sessions.map(({ ended }) => ended), ['invalidated by control', '']);
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [2, 0, 0]);
  });

  test('a refused resume is followed by a new identify', async (t) => {
    const sim = await Simulator.start(t, { shards: 2, 'max-concurrency': 2, guilds: 20, rate: 200 });
    const bot = await Bot.connect(sim);
    await bot.received.guilds(2);
    await bot.received.settle(sim);
    bot.sessions.set(0, { ...bot.sessions.get(0), sequence: 1_000_000 });
    bot.sessions.set(1, { ...bot.sessions.get(1), sessionId: 'unknown' });
    assert.equal(await sim.drop(), 2);
    for (const shard of [0, 1]) await bot.await(2, 'readies', shard);
    await bot.received.guilds(2);
    await bot.received.audit(sim, ['resume seq']);
    assert.deepEqual([bot.shard(0).closes, bot.shard(1).closes], [[1006, 4007], [1006, 1000]]);
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [4, 0, 2]);
  });

  // What this library does when the server closes with a code. Discord's table says otherwise where a comment says so.
  const closes = [
    [1000, 'identify'], // not in the table; other clients resume
    [1001, 'resume'],
    [4000, 'resume'],
    [4001, 'resume'],
    [4002, 'resume'],
    [4003, 'identify'],
    [4004, 'Authentication failed'],
    [4005, 'identify'],
    [4007, 'identify'],
    [4008, 'identify'], // other clients resume
    [4009, 'resume'], // Discord: identify
    [4010, 'Invalid shard'],
    [4011, 'Sharding is required'],
    [4012, 'Used an invalid API version'],
    [4013, 'Used invalid intents'],
    [4014, 'Used disallowed intents'],
    [4321, 'resume'], // a code that does not exist
  ];

  test('each close code is followed by a resume, a new identify or the end of the shard', async (t) => {
    const total = closes.length;
    const sim = await Simulator.start(t, { shards: total, 'max-concurrency': total, guilds: 2 * total, rate: 200 });
    const bot = await Bot.connect(sim);
    await bot.received.guilds(total);
    await bot.received.settle(sim);
    await Promise.all(closes.map(([code], shard) => sim.close(code, shard)));

    // The identifies come last: the library lets seconds pass between two of a bucket.
    for (const [shard, [, next]] of closes.entries()) {
      if (next === 'resume') await bot.await(1, 'resumes', shard);
      else if (next === 'identify') await bot.await(2, 'readies', shard);
      else await until(`error of shard ${shard}`, () => bot.shard(shard).errors.length > 0);
    }
    await bot.received.guilds(total);
    for (const [shard, [code, next]] of closes.entries()) {
      const { hellos, readies, resumes, errors, closes: seen } = bot.shard(shard);
      const want = {
        resume: { hellos: 2, readies: 1, resumes: 1, errors: [], status: WebSocketShardStatus.Ready },
        identify: { hellos: 2, readies: 2, resumes: 0, errors: [], status: WebSocketShardStatus.Ready },
      }[next] ?? { hellos: 1, readies: 1, resumes: 0, errors: [next], status: WebSocketShardStatus.Idle };
      assert.deepEqual({ hellos, readies, resumes, errors, status: await bot.status(shard) }, want, `after ${code}`);
      assert.deepEqual(seen, [code]);
    }
    await bot.received.audit(sim);
  });

  test('a wrong token and an intent that was not granted end the shard', async (t) => {
    const sim = await Simulator.start(t, { privileged: 'none', guilds: 5, rate: 200 });
    await assert.rejects(new Bot(sim, { token: 'wrong' }).connect(), { message: 'Authentication failed' });
    await assert.rejects(new Bot(sim).connect(), { message: 'Used disallowed intents' });

    // A good bot takes longer over this than those two would wait before they tried again.
    const bot = await Bot.connect(sim, { intents: UNPRIVILEGED_INTENTS });
    await bot.flow();
    await sim.drop();
    await bot.await(1, 'resumes');
    await bot.received.audit(sim, ['bad token', 'bad identify']);
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.identifies_refused, stats.sockets], [1, 2, 1]);
  });

  test('another process resumes the session', async (t) => {
    const sim = await Simulator.start(t, { guilds: 20, rate: 200 });
    const first = await Bot.connect(sim);
    await first.flow();
    await first.received.settle(sim);

    const second = new Bot(sim);
    second.sessions = new Map(first.sessions);
    second.received = first.received;
    await first.manager.destroy({ code: 4200 }); // any but 1000 and 1001 keeps the session
    await sim.dispatch('MISSED', {}, 0);
    await sim.rate(200);
    await second.connect();
    await second.flow();
    await second.received.audit(sim);
    assert.equal(second.received.of(0, 'MISSED').length, 1);
    assert.deepEqual([second.shard(0).readies, second.shard(0).resumes], [0, 1]);
    assert.equal((await sim.stats()).identifies, 1);
  });
});
