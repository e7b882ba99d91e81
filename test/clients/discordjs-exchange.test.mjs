// discord.js's gateway library against the simulated Discord: what goes over its connections.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { CompressionMethod } from '@discordjs/ws';

import { Bot } from './discordjs.mjs';
import { Simulator, until } from './sim.mjs';

const Op = { presenceUpdate: 3, voiceStateUpdate: 4, requestGuildMembers: 8, requestSoundboardSounds: 31 };

describe('@discordjs/ws: exchange', { concurrency: true, timeout: 300_000 }, () => {
  // Not payload compression: the library inflates such messages side by side and hands them out in any order.
  const transports = {
    'no compression': {},
    'zlib-stream': { compression: CompressionMethod.ZlibNative },
  };
  for (const [name, options] of Object.entries(transports)) {
    test(`${name}: events small and large, over two connections`, async (t) => {
      const sim = await Simulator.start(t, { guilds: 20, rate: 0 });
      const bot = await Bot.connect(sim, options);
      const text = Array.from({ length: 40_000 }, () => Math.random().toString(36).slice(2, 10)).join('→');
      const missed = Array.from({ length: 5 }, (_, n) => ({ n, text }));
      await bot.received.guilds(1);
      await sim.traffic(100);
      await sim.dispatch('LARGE', { text }, 0);
      // Inflating takes a thread of its own, and the library does not wait for it when it reconnects.
      await bot.received.settle(sim);
      await sim.drop(0);
      await until('end of the connection', () => bot.shard(0).closes.length > 0);
      for (const d of missed) await sim.dispatch('MISSED', d, 0);
      await bot.await(1, 'resumes');
      await sim.traffic(100);
      await bot.received.audit(sim);
      assert.deepEqual(bot.received.of(0, 'LARGE').map(({ d }) => d), [{ text }]);
      assert.deepEqual(bot.received.of(0, 'MISSED').map(({ d }) => d), missed);
      const urls = bot.debug.filter((line) => line.startsWith('Connecting to'));
      assert.equal(urls.length, 2);
      for (const url of urls) assert.equal(url.includes('compress=zlib-stream'), 'compression' in options, url);
    });
  }

  test('requests are answered', async (t) => {
    const sim = await Simulator.start(t, { guilds: 20, rate: 0 });
    const bot = await Bot.connect(sim);
    await bot.received.guilds(1);
    const guild = bot.received.of(0, 'GUILD_CREATE').map(({ d }) => d).sort((a, b) => b.member_count - a.member_count)[0];
    const ask = (op, d) => bot.manager.send(0, { op, d });
    const of = (type) => bot.received.of(0, type).map(({ d }) => d);

    const everybody = { guild_id: guild.id, query: '', limit: 0 };
    await ask(Op.requestGuildMembers, { ...everybody, nonce: 'everybody' });
    await until('chunks of all members', () => of('GUILD_MEMBERS_CHUNK').at(-1)?.chunk_count === of('GUILD_MEMBERS_CHUNK').length);
    const chunks = of('GUILD_MEMBERS_CHUNK');
    assert.deepEqual(chunks.map(({ chunk_index }) => chunk_index), [...chunks.keys()]);
    assert(chunks.every(({ guild_id, nonce }) => guild_id === guild.id && nonce === 'everybody'));
    const members = new Set(chunks.flatMap(({ members }) => members.map(({ user }) => user.id)));
    assert.equal(members.size, guild.member_count);

    await ask(Op.requestGuildMembers, { ...everybody, nonce: 'again' });
    await bot.received.await(1, 0, 'RATE_LIMITED');
    const [limited] = of('RATE_LIMITED');
    assert.deepEqual([limited.opcode, limited.meta], [8, { guild_id: guild.id, nonce: 'again' }]);
    assert(limited.retry_after > 0 && limited.retry_after <= 30);

    const ids = [...members].slice(0, 3);
    await ask(Op.requestGuildMembers, { guild_id: guild.id, user_ids: ids });
    await bot.received.await(chunks.length + 1, 0, 'GUILD_MEMBERS_CHUNK');
    assert.deepEqual(of('GUILD_MEMBERS_CHUNK').at(-1).members.map(({ user }) => user.id), ids);

    const channel = guild.channels.find(({ type }) => type === 2).id;
    await ask(Op.voiceStateUpdate, { guild_id: guild.id, channel_id: channel, self_mute: true, self_deaf: false });
    await bot.received.await(1, 0, 'VOICE_SERVER_UPDATE');
    assert.equal(of('VOICE_STATE_UPDATE')[0].channel_id, channel);
    assert.equal(of('VOICE_SERVER_UPDATE')[0].guild_id, guild.id);

    await ask(Op.requestSoundboardSounds, { guild_ids: [guild.id] });
    await bot.received.await(1, 0, 'SOUNDBOARD_SOUNDS');

    // A presence has no answer but that the connection goes on.
    const activities = [{ name: 'muster', type: 0 }];
    await ask(Op.presenceUpdate, { since: null, activities, status: 'idle', afk: false });
    await sim.beat(0);
    await bot.await(1, 'acks');
    await bot.received.audit(sim);
    assert.deepEqual(bot.shard(0).closes, []);
  });

  test('heartbeats are acknowledged', async (t) => {
    const sim = await Simulator.start(t, { guilds: 5, rate: 50, 'heartbeat-interval': '2s' });
    const bot = await Bot.connect(sim);
    await bot.await(3, 'acks');
    await bot.received.audit(sim);
  });
});
