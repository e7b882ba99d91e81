// A bot on discord.js's gateway library.

import { REST } from '@discordjs/rest';
import { WebSocketManager } from '@discordjs/ws';

import { Received } from './received.mjs';
import { ALL_INTENTS, TOKEN, until, within } from './sim.mjs';

/** A bot of one process, and what its library says happened. */
export class Bot {
  /** By shard: what a RESUME needs, kept by the library. */
  sessions = new Map();
  received = new Received();
  debug = [];
  #shards = new Map();

  constructor(sim, options = {}) {
    this.manager = new WebSocketManager({
      token: TOKEN,
      intents: ALL_INTENTS,
      rest: new REST({ version: '10', api: `${sim.url}/api` }).setToken(TOKEN),
      // Its defaults are 30 s and 15 s, which a loaded machine may exceed: then it identifies again.
      handshakeTimeout: 60_000,
      readyTimeout: 60_000,
      // Its own default is one store for the whole process, where bots of different simulators would meet.
      retrieveSessionInfo: (shard) => this.sessions.get(shard) ?? null,
      updateSessionInfo: (shard, info) => (info ? this.sessions.set(shard, info) : this.sessions.delete(shard)),
      ...options,
    });
    this.manager.on('hello', (shard) => this.shard(shard).hellos++);
    this.manager.on('ready', (_, shard) => this.shard(shard).readies++);
    this.manager.on('resumed', (shard) => this.shard(shard).resumes++);
    this.manager.on('heartbeat', (_, shard) => this.shard(shard).acks++);
    this.manager.on('closed', (code, shard) => this.shard(shard).closes.push(code));
    this.manager.on('error', (error, shard) => this.shard(shard).errors.push(error.message));
    this.manager.on('debug', (text) => this.debug.push(text));
    this.manager.on('dispatch', (payload, shard) => this.received.add(shard, payload));
    sim.attach(this);
  }

  /** A bot whose shards are all ready. */
  static async connect(sim, options) {
    const bot = new Bot(sim, options);
    await bot.connect();
    return bot;
  }

  /** Connects every shard, each to its session if it has one. It fails as the library fails. */
  async connect() {
    await within('every shard ready or resumed', this.manager.connect());
  }

  /** What the library said of a shard so far. */
  shard(id) {
    if (!this.#shards.has(id)) {
      this.#shards.set(id, { hellos: 0, readies: 0, resumes: 0, acks: 0, closes: [], errors: [] });
    }
    return this.#shards.get(id);
  }

  /** Waits until the library has said so often that something happened to a shard. */
  async await(count, what, id = 0) {
    await until(`${count} ${what} of shard ${id}`, () => this.shard(id)[what] >= count);
  }

  /** Waits until the shard has received so many more dispatches. */
  async flow(id = 0, more = 50) {
    await this.received.await(this.received.of(id).length + more, id);
  }

  async status(id = 0) {
    return (await this.manager.fetchStatus()).get(id);
  }

  async stop() {
    await this.manager.destroy();
  }
}
