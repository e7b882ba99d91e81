"""Reads a muster cluster's events with a consumer group: each at least once, those of a shard in order, and what it does
with them, here counting, exactly once.

    pip install -r requirements.txt
    REDIS_URL=redis://127.0.0.1:6379 python3 consumer.py

MUSTER_CLUSTER is the cluster's name (muster), GROUP the group's (example-python), DATABASE an SQLite file (counts.db). To
share the work between n processes, start them with PART=0/n to PART=n-1/n and a database for each: each reads shards of
its own, which keeps each shard's order.
"""

import json
import os
import random
import re
import signal
import sqlite3
import sys
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

CLUSTER = os.environ.get("MUSTER_CLUSTER", "muster")
GROUP = os.environ.get("GROUP", "example-python")
PART, PARTS = map(int, os.environ.get("PART", "0/1").split("/"))
CONSUMER = f"part-{PART}"  # the same after a restart
MAX_ATTEMPTS = 5

# An XREADGROUP whose answer was lost must not be sent again: what it had delivered would be passed over.
client = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), decode_responses=True, retry=Retry(NoBackoff(), 0)
)
db = sqlite3.connect(os.environ.get("DATABASE", "counts.db"), isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS counts (type TEXT PRIMARY KEY, n INTEGER NOT NULL)")
db.execute("CREATE TABLE IF NOT EXISTS done (shard INTEGER PRIMARY KEY, epoch INTEGER, seq INTEGER)")


def key(shard, what):
    """All keys of a shard have its {tag}, so that they may be used together, also in a Redis Cluster."""
    return f"{CLUSTER}:{{{shard}}}:{what}"


def handle(shard, entry_id, event_type, data):
    """What this bot does with an event. It runs in the transaction that also notes that it is done."""
    if event_type == "MUSTER_GAP":
        # Events of this shard may be missing before this point: ask Discord again for whatever you keep of its guilds.
        print(f"shard {shard}: events after {data['after']} may be missing: {data['reason']}", flush=True)
    if event_type == "MUSTER_RESHARD":
        # Nothing is missing; but what follows may have come through another shard already, some seconds' worth of it.
        print(f"shard {shard}: {data['shards']} shards instead of {data['shards_before']}", flush=True)
    db.execute("INSERT INTO counts VALUES (?, 1) ON CONFLICT (type) DO UPDATE SET n = n + 1", (event_type,))


def last_done(shard):
    """The last entry of a shard that was handled. Ids rise, so whatever is not after it was handled before."""
    return db.execute("SELECT epoch, seq FROM done WHERE shard = ?", (shard,)).fetchone() or (0, 0)


def settle(shard, entry_id, fields):
    """Handles one entry and acknowledges it. A commit for each is slow but plain; a busy bot commits many together."""
    position = tuple(map(int, entry_id.split("-")))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            db.execute("BEGIN")
            if position > last_done(shard):
                handle(shard, entry_id, fields["t"], json.loads(fields["d"]))
                db.execute("INSERT OR REPLACE INTO done VALUES (?, ?, ?)", (shard, *position))
            db.execute("COMMIT")
            break
        except Exception as err:  # noqa: BLE001: whatever is wrong with this entry or its handler
            db.execute("ROLLBACK")
            print(f"shard {shard}, entry {entry_id}, attempt {attempt}: {err!r}", file=sys.stderr, flush=True)
            if attempt == MAX_ATTEMPTS:
                bury(shard, entry_id, fields, repr(err))
                return
            time.sleep(0.1 * 2**attempt * random.uniform(0.5, 1))
    client.xack(key(shard, "events"), GROUP, entry_id)


def bury(shard, entry_id, fields, reason):
    """Moves an entry to the dead letters."""
    letter = {"id": entry_id, "reason": reason, "deliveries": MAX_ATTEMPTS, "at": int(time.time() * 1000), **fields}
    with client.pipeline(transaction=True) as pipe:
        pipe.xadd(key(shard, f"events:dead:{GROUP}"), letter, maxlen=10_000, approximate=True)
        pipe.xack(key(shard, "events"), GROUP, entry_id)
        pipe.execute()


def begin(shard, start):
    """Begins with a shard: makes the group, and settles first what was delivered before and never acknowledged."""
    events = key(shard, "events")
    stood = last_done(shard)
    if stood != (0, 0):
        start = "%d-%d" % stood  # were the group lost, it would go on here
    try:
        client.xgroup_create(events, GROUP, id=start, mkstream=True)
    except redis.ResponseError as err:
        if not str(err).startswith("BUSYGROUP"):  # it is there: goes on where it stands
            raise
    cursor = "0-0"
    while True:
        # From whichever consumer, at once: nobody else reads this shard.
        cursor, entries = client.xautoclaim(events, GROUP, CONSUMER, 0, cursor, count=100)[:2]
        for entry_id, fields in entries:
            if entry_id:  # None: trimmed meanwhile
                settle(shard, entry_id, fields)
        if cursor == "0-0":
            return


def main():
    running = True

    def stop(*_):
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    start = os.environ.get("FROM", "$")
    mine = set()
    while running:
        try:
            # How many streams there are may grow. Of those that come later nothing may be missed.
            streams = int(client.hget(f"{CLUSTER}:cluster", "streams") or 0)
            for shard in range(PART, streams, PARTS):
                if shard not in mine:
                    begin(shard, start)
                    mine.add(shard)
            if not mine:
                time.sleep(1)  # the cluster is not there yet
                continue
            start = "0"
            read = client.xreadgroup(GROUP, CONSUMER, {key(shard, "events"): ">" for shard in mine}, count=100, block=1000)
            for stream, entries in read:
                shard = int(re.search(r"\{(\d+)\}", stream)[1])
                for entry_id, fields in entries:
                    settle(shard, entry_id, fields)
        except redis.RedisError as err:
            # What was delivered and not settled, and a group that is gone, are begin's to put right.
            print(f"beginning again: {err!r}", file=sys.stderr, flush=True)
            mine.clear()
            time.sleep(random.uniform(0.5, 1))


if __name__ == "__main__":
    main()
