// Package lease says which worker runs which shards, and makes sure that nobody who has lost that right can still
// act on it. It is the only package that talks to etcd, and it holds every rule about what is written there.
//
// A shard of a Discord bot must be run by one process at a time. Processes crash, hang, are paused and resumed, and
// lose their network, so "I looked and it was mine" is worth nothing a moment later. muster therefore never acts on
// what it once read: every write to etcd is one transaction that compares what the writer believes with what is
// true, and does nothing when the two differ.
//
// # Liveness is apart from ownership
//
// A worker is alive while its key wrk/<worker> exists. That key, and little else, hangs on an etcd lease, which the
// worker renews. Ownership of a range of shards is a persistent key, own/<generation>/<range>. So the death of a
// worker deletes a handful of keys, not one per shard, and a worker that etcd could not reach for a while still owns what it
// owned, until the leader has given it to somebody else.
//
// # Fences
//
// Three numbers, all of them etcd revisions and so never used twice, prove the right to write:
//
//   - the incarnation of a worker: the create revision of wrk/<worker>. A worker that registers again is another one.
//   - the fence of a range: the modification revision of own/<generation>/<range>, which changes only when the owner does.
//   - the term of a leader: the create revision of the key it holds in the election.
//
// A worker writes with an [Ownership], which compares fence and incarnation; a leader writes with a [Term], which compares the term.
// A transaction whose compare fails returns [ErrFenced]. One whose outcome is unknown (a timeout) returns another
// error, and the caller must read again before it acts; the watch does that for it.
//
// # A restored etcd
//
// An etcd that was restored from a backup has lost what came after it, and gives the same revisions out again: then a fence could
// be mistaken for another. So every guarded write also compares the era, a record with a random value. A Store compares every answer with
// those before it: another id of the cluster, or a revision that went back, is a restored etcd ([ErrRestored]). Whatever the Store has begun is
// then over: registrations are lost, terms end, followers read everything again. Who registers or campaigns next replaces the era, which ends what
// others have begun too, though they may have noticed nothing, since etcd can have made as many new revisions as it lost when they come back.
//
// # Keys
//
// All below /muster/<cluster>/:
//
//	schema                       the version of all this, for an older muster not to start with a newer one's keys
//	ldr/<lease>                  the election's keys; the oldest is the leader's
//	leader                       who leads, written by the leader to confirm its term
//	wrk/<worker>                 Worker: alive, where, draining        (on the worker's etcd lease)
//	status/<worker>              Status: its shards' states and rates  (on the worker's etcd lease)
//	halt/<worker>                Halt: why nobody may connect          (on the worker's etcd lease)
//	refused/<worker>/<generation> Refusal: Discord's of a generation's number of shards (on the worker's etcd lease)
//	era                          Era: from one restoration of etcd to the next
//	plan                         Plan: the generation in force
//	alarm                        Alarm: why a refused plan is not replaced, and what a person has to do
//	directive/<name>             Down, Reshard, Rebalance; drain/<worker>: Drain. What operators want, until it is done
//	own/<generation>/<range>     Owner: worker and incarnation; its modification revision is the fence
//	mov/<generation>/<range>     Move: the leader's intent that the owner hands over, and whether its target is ready
//	asg/<worker>/<gen>/<range>   Assignment or Notice: what a worker has to do or to expect, the only ranges it watches
//	sess/<generation>/<shard>    Session: Discord session and epoch, written by the range's owner
//	idn/<worker>/<gen>/<shard>   IdentifyRequest: a shard that has to IDENTIFY, then its grant
//	slot/<bucket>                Slot: the last identify permit of a bucket
//	budget                       Budget: how many IDENTIFYs the day still has
package lease
