// What a client received, and the audit of it against what the simulator sent.

import assert from 'node:assert/strict';

import { until } from './sim.mjs';

/** The last event that an audit sends on every session. */
const LAST = 'AUDIT';

/** The dispatches that a client's library handed out, by session. */
export class Received {
  #current = new Map(); // by shard: the payloads of its newest session
  #sessions = new Map(); // by the trace in READY, which is no secret and names the session
  #stray = []; // what came to a shard before any READY

  /** Takes one dispatch as it came: {t, s, d}. */
  add(shard, payload) {
    if (payload.t === 'READY') {
      const session = this.#sessions.get(payload.d._trace[0]) ?? [];
      this.#sessions.set(payload.d._trace[0], session);
      this.#current.set(shard, session);
    }
    (this.#current.get(shard) ?? this.#stray).push(payload);
  }

  /** The payloads of a shard's newest session, of one type if one is named. */
  of(shard, type) {
    const all = this.#current.get(shard) ?? [];
    return type ? all.filter((payload) => payload.t === type) : all;
  }

  /** Waits until the shard's newest session has so many dispatches, of one type if one is named. */
  async await(count, shard, type) {
    await until(`${count} ${type ?? 'dispatches'} on shard ${shard}`, () => this.of(shard, type).length >= count);
  }

  /** Waits until each shard has READY and every guild that it promised. */
  async guilds(shards) {
    for (let shard = 0; shard < shards; shard++) {
      await this.await(1, shard, 'READY');
      await this.await(this.of(shard, 'READY')[0].d.guilds.length, shard, 'GUILD_CREATE');
    }
  }

  /**
   * Stops the traffic and waits until every session with a socket has received all that it was sent: sockets keep order,
   * so whatever came at all came before the event that is sent last.
   */
  async settle(sim) {
    await sim.rate(0);
    await sim.dispatch(LAST, {});
    return until('the last event on every session', async () => {
      const sessions = await sim.sessions();
      const behind = sessions.some(
        ({ trace, attached, last }) => attached && (this.#sessions.get(trace)?.at(-1)?.s ?? 0) < last,
      );
      return !behind && sessions;
    });
  }

  /**
   * Proves that each session's dispatches arrived exactly once and in order, and that the client broke no rule but the
   * ones that the test is about. Where a session has lost its socket for good, settle before it does.
   */
  async audit(sim, rules = []) {
    const sessions = await this.settle(sim);
    for (const { shard, trace, attached, dispatches } of sessions) {
      const sent = dispatches.map(([seq, type]) => `${seq} ${type}`);
      const got = (this.#sessions.get(trace) ?? []).map(({ s, t }) => `${s} ${t}`);
      // What this method sent itself does not reach a session that has no socket any more.
      while (!attached && sent.length > got.length && sent.at(-1).endsWith(` ${LAST}`)) sent.pop();
      same(`shard ${shard}`, got, sent);
    }
    assert.equal(this.#sessions.size, sessions.length, 'sessions that the client knows');
    assert.deepEqual(this.#stray, [], 'dispatches before READY');
    const violations = await sim.violations();
    assert.deepEqual(violations.map(({ rule }) => rule), rules, JSON.stringify(violations));
    return sessions;
  }
}

function same(whose, got, sent) {
  const at = sent.findIndex((event, i) => got[i] !== event);
  if (at >= 0) assert.fail(`${whose}: dispatch ${at} of ${sent.length} is ${got[at] ?? 'missing'}, sent ${sent[at]}`);
  assert.equal(got.length, sent.length, `${whose}: received more than was sent, from ${got[sent.length]} on`);
}
