// The simulated Discord as a process of its own, steered through its control API.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

/** The bot token that `muster sim` accepts unless told otherwise. */
export const TOKEN = 'simulated-token';

/** Every intent, and every one that needs no grant. `muster sim` grants the bot all of them unless told otherwise. */
export const ALL_INTENTS = 53608447;
export const UNPRIVILEGED_INTENTS = 53575421;

/** How long anything may take. It is far more than a loaded machine needs: a wait that ends here has failed. */
const DEADLINE_SECONDS = 60;

/** Processes that a test left running, which must not outlive this one. */
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/**
 * Asks again and again until there is an answer, and returns it.
 *
 * @param what names the awaited thing in the error
 * @param probe returns, or promises, something truthy once it is there
 */
export async function until(what, probe) {
  const deadline = Date.now() + DEADLINE_SECONDS * 1000;
  for (;;) {
    const answer = await probe();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_SECONDS} s`);
    await pause(20);
  }
}

/** Waits for a promise, but not for ever. */
export async function within(what, promise) {
  const over = new AbortController();
  const late = pause(DEADLINE_SECONDS * 1000, undefined, { signal: over.signal }).then(
    () => Promise.reject(new Error(`${what}: not within ${DEADLINE_SECONDS} s`)),
    () => {}, // there was no need
  );
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
  }
}

export class Simulator {
  #child;
  #stderr = '';
  #clients = [];

  /**
   * Starts a simulator on a free port and stops it, after its clients, when the test ends. It records every dispatch.
   *
   * It takes two IDENTIFYs of a bucket 4 s apart, where Discord and the clients count 5: on a loaded machine the second may
   * overtake what held up the first.
   *
   * @param t the test
   * @param flags of `muster sim`, without the dashes
   */
  static async start(t, flags = {}) {
    const all = { listen: '127.0.0.1:0', 'identify-window': '4s', ...flags };
    const sim = new Simulator();
    t.after(() => sim.#stop());
    await sim.#spawn(['sim', '--record', ...Object.entries(all).map(([name, value]) => `--${name}=${value}`)]);
    return sim;
  }

  async #spawn(args) {
    this.#child = spawn(process.env.MUSTER, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.#child);
    this.#child.on('exit', () => running.delete(this.#child));
    this.#child.stderr.on('data', (text) => (this.#stderr += text));
    const lines = createInterface({ input: this.#child.stdout });
    lines.on('line', (line) => (this.url ??= line.match(/http:\/\/[^/]+/)?.[0]));
    await until('address of the simulator', () => {
      if (this.#child.exitCode !== null) throw new Error(`muster ${args.join(' ')}: ${this.#stderr}`);
      return this.url;
    });
  }

  /** Has the client stopped before the simulator, to which it would reconnect for ever. */
  attach(client) {
    this.#clients.push(client);
  }

  async #stop() {
    try {
      await within('end of the clients', Promise.all(this.#clients.map((client) => client.stop())));
    } finally {
      const exited = once(this.#child, 'exit');
      if (this.#child.kill('SIGTERM')) await within('end of the simulator', exited);
    }
    if (this.#child.exitCode !== 0) throw new Error(`simulator exited with ${this.#child.exitCode}: ${this.#stderr}`);
  }

  async #fetch(method, path, options = {}) {
    const signal = AbortSignal.timeout(DEADLINE_SECONDS * 1000);
    const answer = await fetch(this.url + path, { method, signal, ...options });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return JSON.parse(text);
  }

  /** What Discord recommends to a bot that starts. */
  gatewayBot = () => this.#fetch('GET', '/api/v10/gateway/bot', { headers: { authorization: `Bot ${TOKEN}` } });

  #control = (method, path, query = {}, d) =>
    this.#fetch(method, `/sim/v1/${path}?${new URLSearchParams(query)}`, d && { body: JSON.stringify(d) });

  stats = () => this.#control('GET', 'stats');
  violations = () => this.#control('GET', 'violations');
  /** Every session in order of creation, each with the [seq, type, checksum] of what it was sent. */
  sessions = () => this.#control('GET', 'sessions', { dispatches: true });

  async #post(path, query, body) {
    return (await this.#control('POST', path, query, body)).affected;
  }

  // What the simulator does to a shard, or to all if none is named. Each returns how many sockets or sessions it reached.
  drop = (shard) => this.#post('drop', only(shard));
  reconnect = (shard) => this.#post('reconnect', only(shard));
  close = (code, shard) => this.#post('close', { code, ...only(shard) });
  invalidate = (resumable, shard) => this.#post('invalidate', { resumable, ...only(shard) });
  beat = (shard) => this.#post('beat', only(shard));
  rate = (perSecond) => this.#post('rate', { per_second: perSecond });
  dispatch = (type, d, shard) => this.#post('dispatch', { type, ...only(shard) }, d);

  /** Makes at least so many events of traffic and stops it, so that a client that is slow has an end before it. */
  async traffic(events) {
    const { dispatched } = await this.stats();
    await this.rate(200);
    await until(`${events} events of traffic`, async () => (await this.stats()).dispatched >= dispatched + events);
    await this.rate(0);
  }
}

const only = (shard) => (shard === undefined ? {} : { shard });
