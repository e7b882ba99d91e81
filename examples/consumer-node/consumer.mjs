// Reads a muster cluster's events with a consumer group: each at least once, those of a shard in order, and what it does
// with them, here counting, exactly once.
//
//   npm install && REDIS_URL=redis://127.0.0.1:6379 node consumer.mjs
//
// MUSTER_CLUSTER is the cluster's name (muster), GROUP the group's (example-node). To share the work between n processes,
// start them with PART=0/n to PART=n-1/n: each reads shards of its own, which keeps each shard's order.

import Redis from 'ioredis';

const cluster = process.env.MUSTER_CLUSTER ?? 'muster';
const group = process.env.GROUP ?? 'example-node';
const [part, parts] = (process.env.PART ?? '0/1').split('/').map(Number);
const consumer = `part-${part}`; // the same after a restart
const MAX_ATTEMPTS = 5;

// An XREADGROUP whose answer was lost must not be sent again: what it had delivered would be passed over.
const redis = new Redis(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379', { autoResendUnfulfilledCommands: false });
redis.on('error', (err) => console.error(`redis: ${err.message}`)); // it connects again by itself

// All keys of a shard have its {tag}, so that they may be used together, also in a Redis Cluster.
const key = (shard, what) => `${cluster}:{${shard}}:${what}`;
const shardOf = (streamKey) => Number(/\{(\d+)\}/.exec(streamKey)[1]);

/** What this bot does with an event, as commands for the transaction that also notes that it is done. */
function handle(transaction, shard, id, type, data) {
  if (type === 'MUSTER_GAP') {
    // Events of this shard may be missing before this point: ask Discord again for whatever you keep of its guilds.
    console.log(`shard ${shard}: events after ${data.after} may be missing: ${data.reason}`);
  }
  if (type === 'MUSTER_RESHARD') {
    // Nothing is missing; but what follows may have come through another shard already, some seconds' worth of it.
    console.log(`shard ${shard}: ${data.shards} shards instead of ${data.shards_before}`);
  }
  transaction.hincrby(key(shard, `counts:${group}`), type, 1);
}

/** The last entry of a shard that was handled. Ids rise, so whatever is not after it was handled before. */
const lastDone = (shard) => redis.get(key(shard, `done:${group}`));
const done = new Map();

function after(id, other) {
  const [epoch, seq] = id.split('-').map(BigInt);
  const [otherEpoch, otherSeq] = other.split('-').map(BigInt);
  return epoch > otherEpoch || (epoch === otherEpoch && seq > otherSeq);
}

/** Handles one entry: what it does, the note that it is done, and the acknowledgement are one transaction. */
async function settle(shard, id, fields) {
  for (let attempt = 1; ; attempt++) {
    try {
      if (attempt > 1) done.set(shard, (await lastDone(shard)) ?? '0-0'); // it may be that only the answer was lost
      if (!after(id, done.get(shard))) {
        await redis.xack(key(shard, 'events'), group, id);
        return;
      }
      const entry = Object.fromEntries(fields.flatMap((f, i) => (i % 2 ? [] : [[f, fields[i + 1]]])));
      const transaction = redis.multi();
      handle(transaction, shard, id, entry.t, JSON.parse(entry.d));
      transaction.set(key(shard, `done:${group}`), id);
      transaction.xack(key(shard, 'events'), group, id);
      await commit(transaction);
      break;
    } catch (err) {
      console.error(`shard ${shard}, entry ${id}, attempt ${attempt}: ${err.message}`);
      if (attempt === MAX_ATTEMPTS) {
        const dead = redis.multi();
        dead.xadd(key(shard, `events:dead:${group}`), 'MAXLEN', '~', 10000, '*',
          'id', id, 'reason', err.message, 'deliveries', attempt, 'at', Date.now(), ...fields);
        dead.set(key(shard, `done:${group}`), id);
        dead.xack(key(shard, 'events'), group, id);
        await commit(dead);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 100 * 2 ** attempt * (0.5 + Math.random() / 2)));
    }
  }
  done.set(shard, id);
}

async function commit(transaction) {
  for (const [err] of await transaction.exec()) {
    if (err) throw err;
  }
}

/** Begins with a shard: makes the group, and settles first what was delivered before and never acknowledged. */
async function begin(shard, from) {
  const events = key(shard, 'events');
  const stood = await lastDone(shard); // were the group lost, it would go on here
  await redis.xgroup('CREATE', events, group, stood ?? from, 'MKSTREAM').catch((err) => {
    if (!err.message.startsWith('BUSYGROUP')) throw err; // it is there: goes on where it stands
  });
  done.set(shard, stood ?? '0-0');
  for (let cursor = '0-0'; ;) {
    // From whichever consumer, at once: nobody else reads this shard.
    const [next, entries] = await redis.xautoclaim(events, group, consumer, 0, cursor, 'COUNT', 100);
    for (const entry of entries) {
      if (entry) await settle(shard, ...entry); // null: trimmed meanwhile
    }
    if ((cursor = next) === '0-0') return;
  }
}

let running = true;
process.once('SIGTERM', () => (running = false));
process.once('SIGINT', () => (running = false));

let from = process.env.FROM ?? '$';
const mine = new Set();
while (running) {
  try {
    // How many streams there are may grow. Of those that come later nothing may be missed.
    const streams = Number((await redis.hget(`${cluster}:cluster`, 'streams')) ?? 0);
    for (let shard = 0; shard < streams; shard++) {
      if (shard % parts === part && !mine.has(shard)) {
        await begin(shard, from);
        mine.add(shard);
      }
    }
    if (mine.size === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1000)); // the cluster is not there yet
      continue;
    }
    from = '0';
    const keys = [...mine].map((shard) => key(shard, 'events'));
    const read = await redis.xreadgroup('GROUP', group, consumer, 'COUNT', 100, 'BLOCK', 1000, 'STREAMS', ...keys, ...keys.map(() => '>'));
    for (const [stream, entries] of read ?? []) {
      for (const [id, fields] of entries) await settle(shardOf(stream), id, fields);
    }
  } catch (err) {
    // What was delivered and not settled, and a group that is gone, are begin's to put right.
    console.error(`beginning again: ${err.message}`);
    mine.clear();
    await new Promise((resolve) => setTimeout(resolve, 500 + Math.random() * 500));
  }
}
await redis.quit();
