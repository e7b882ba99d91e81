// The two compressions that the libraries here cannot be trusted with (see README.md), against decoders that nobody here
// wrote: zlib, which Node.js brings, and fzstd.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';

import { Decompress } from 'fzstd';
import WebSocket from 'ws';

import { Received } from './received.mjs';
import { ALL_INTENTS, Simulator, TOKEN, until } from './sim.mjs';

/** zstd-stream: one context for the connection, from which each WebSocket message yields one gateway message. */
function zstdStream() {
  const blocks = []; // of one message, which has more than one if it is large
  const decoder = new Decompress((block) => blocks.push(Buffer.from(block)));
  return (data) => {
    decoder.push(data);
    return Buffer.concat(blocks.splice(0));
  };
}

/** Payload compression: a text message is plain, a binary one is a zlib stream of its own. */
function payloads() {
  return (data, isBinary) => (isBinary ? inflateSync(data) : data);
}

const transports = {
  'zstd-stream': { query: '&compress=zstd-stream', decoder: zstdStream(), binary: 'all' },
  'payload compression': { query: '', compress: true, decoder: payloads(), binary: 'some' },
};

for (const [name, { query, compress, decoder, binary }] of Object.entries(transports)) {
  test(`${name}: each WebSocket message is one gateway message, small or large`, async (t) => {
    const sim = await Simulator.start(t, { guilds: 20, rate: 200 });
    const socket = new WebSocket(`${sim.url.replace('http', 'ws')}/?v=10&encoding=json${query}`);
    sim.attach({ stop: () => socket.close(1000) });

    const received = new Received();
    const count = { text: 0, binary: 0 };
    socket.on('message', (data, isBinary) => {
      count[isBinary ? 'binary' : 'text']++;
      const payload = JSON.parse(decoder(data, isBinary));
      if (payload.op === 0) received.add(0, payload);
      if (payload.op !== 10) return;
      const properties = { os: 'linux', browser: 'ws', device: 'ws' };
      socket.send(JSON.stringify({ op: 2, d: { token: TOKEN, intents: ALL_INTENTS, properties, compress } }));
    });
    await received.guilds(1);
    const text = Array.from({ length: 40_000 }, () => Math.random()).join('→');
    await sim.dispatch('LARGE', { text }, 0);
    await until('traffic', () => received.of(0).length > 300);
    await received.audit(sim);
    assert.equal(received.of(0, 'LARGE')[0].d.text, text);
    assert(count.binary > 0);
    assert.equal(count.text === 0, binary === 'all', `${count.text} text messages`);
  });
}
