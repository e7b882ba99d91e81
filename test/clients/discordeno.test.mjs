// Discordeno's gateway library against the simulated Discord.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { createGatewayManager, ShardSocketCloseCodes, TransportCompression } from '@discordeno/gateway';

import { Received } from './received.mjs';
import { ALL_INTENTS, Simulator, TOKEN, until } from './sim.mjs';

/** A bot of one process, and what its library says happened. */
class Bot {
  received = new Received();
  identified = 0;
  resumed = 0;

  constructor(sim, connection, options) {
    this.manager = createGatewayManager({
      token: TOKEN,
      intents: ALL_INTENTS,
      connection,
      logger: { debug() {}, info() {}, warn() {}, error() {}, fatal() {} },
      preferSnakeCase: true,
      resharding: { enabled: false },
      events: {
        identified: () => this.identified++,
        resumed: () => this.resumed++,
        message: (shard, payload) => payload.op === 0 && this.received.add(shard.id, payload),
      },
      ...options,
    });
    sim.attach(this);
  }

  /** A bot with every shard that the simulator recommends, all of them ready and with their guilds. */
  static async connect(sim, options) {
    const { url, shards, session_start_limit: limit } = await sim.gatewayBot();
    const sessionStartLimit = {
      total: limit.total,
      remaining: limit.remaining,
      resetAfter: limit.reset_after,
      maxConcurrency: limit.max_concurrency,
    };
    const bot = new Bot(sim, { url, shards, sessionStartLimit }, options);
    void bot.manager.spawnShards(); // ends only when it might identify yet another shard
    await bot.received.guilds(shards);
    return bot;
  }

  async await(count, what) {
    await until(`shard ${what} ${count} times`, () => this[what] >= count);
  }

  /** Waits until the shard has received so many more dispatches. */
  async flow(id = 0, more = 50) {
    await this.received.await(this.received.of(id).length + more, id);
  }

  async stop() {
    await this.manager.shutdown(ShardSocketCloseCodes.Shutdown, 'the test is over');
  }
}

describe('@discordeno/gateway', { concurrency: true, timeout: 300_000 }, () => {
  test('four shards identify in two buckets', async (t) => {
    const sim = await Simulator.start(t, { shards: 4, 'max-concurrency': 2, guilds: 40, rate: 400 });
    const bot = await Bot.connect(sim);
    for (let shard = 0; shard < 4; shard++) await bot.flow(shard);
    const sessions = await bot.received.audit(sim);
    assert.deepEqual(sessions.map(({ shard }) => shard).sort(), [0, 1, 2, 3]);
  });

  for (const [name, transportCompression] of [['no compression', null], ['zlib-stream', TransportCompression.zlib]]) {
    test(`${name}: resumes after a drop, op 7, close 4000 and op 9 true`, async (t) => {
      const sim = await Simulator.start(t, { guilds: 20, rate: transportCompression ? 0 : 200 });
      const bot = await Bot.connect(sim, { transportCompression });
      const flow = async () => {
        if (!transportCompression) return bot.flow();
        await sim.traffic(50);
        await bot.received.settle(sim); // when its connection closes, the library forgets what it is still inflating
      };
      const disturbances = [sim.drop, sim.reconnect, (shard) => sim.close(4000, shard), (shard) => sim.invalidate(true, shard)];
      for (const [i, disturb] of disturbances.entries()) {
        await flow();
        assert.equal(await disturb(0), 1);
        await bot.await(i + 1, 'resumed');
      }
      await flow();
      await bot.received.audit(sim);
      const stats = await sim.stats();
      assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [1, disturbances.length, 0]);
    });
  }

  test('op 9 false and the codes 4003, 4007 and 4009 are followed by a new identify', async (t) => {
    // The library spaces the identifies of its start only.
    const sim = await Simulator.start(t, { guilds: 10, rate: 200, 'identify-window': '1ms' });
    const bot = await Bot.connect(sim);
    const disturbances = [sim.invalidate.bind(sim, false), ...[4003, 4007, 4009].map((code) => (shard) => sim.close(code, shard))];
    for (const [i, disturb] of disturbances.entries()) {
      await bot.received.settle(sim);
      assert.equal(await disturb(0), 1);
      await bot.await(i + 2, 'identified');
      await bot.received.guilds(1);
    }
    await bot.received.audit(sim);
    const stats = await sim.stats();
    assert.deepEqual([stats.identifies, stats.resumes, stats.resumes_refused], [disturbances.length + 1, 0, 0]);
  });
});
