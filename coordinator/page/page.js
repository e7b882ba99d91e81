// The page of one coordinator replica. It is told of the cluster by server-sent events (v1/live) and gives orders to the API
// (docs/protocol.md). Everything that comes from the cluster is put in as text, never as markup. Here is what it is told, and all that it shows
// but the shards (grid.js), the plots (plots.js) and the orders (orders.js), whose functions it uses.
'use strict';

const $ = id => document.getElementById(id);
const make = (tag, text = '', props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);
const put = (node, text) => { if (node.textContent !== String(text)) node.textContent = text; };
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 }), time = new Intl.DateTimeFormat([], { timeStyle: 'medium', hourCycle: 'h23' }); // made once: that is slow
const count = n => whole.format(n);
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;
const clock = at => time.format(new Date(at));

let state = null;       // the last state event
let samples = [];       // ten minutes, a second apart
let happened = [];      // incidents, oldest first

// ---- what we are told

const silence = 40000;  // the coordinator says something every 15 s
const retry = 3000;     // after it refused to listen

let source = null, heardAt = 0;

function listen() {
  source = new EventSource('v1/live');
  heardAt = Date.now();
  let fresh = true;     // a new connection tells all history again
  source.onopen = () => { heardAt = Date.now(); fresh = true; };
  source.onerror = () => {
    lose();
    if (source?.readyState === EventSource.CLOSED) setTimeout(listen, retry); // else it tries again by itself
  };
  source.addEventListener('ping', () => { heardAt = Date.now(); });
  source.addEventListener('state', e => {
    heardAt = Date.now();
    state = JSON.parse(e.data);
    $('lost').hidden = true;
    document.body.classList.remove('stale');
    put($('link'), `live, from ${state.answered_by}`);
    show();
  });
  source.addEventListener('history', e => {
    heardAt = Date.now();
    const news = JSON.parse(e.data);
    samples = (fresh ? [] : samples).concat(news.samples || []).slice(-600);
    happened = (fresh ? [] : happened).concat(news.incidents || []).slice(-100);
    fresh = false;
    showHistory();
  });
}

// A connection can be dead without an error.
function giveUpSilent() {
  if (source?.readyState !== EventSource.OPEN || Date.now() - heardAt <= silence) return;
  source.close();
  lose();
  listen();
}

setInterval(giveUpSilent, 5000);

// lose says that what is on the page is old, and makes it look so.
function lose() {
  if (!$('lost').hidden) return;
  $('lost').textContent = `Not live: ${state ? state.answered_by : 'this coordinator'} has not answered this page since ${clock(heardAt)}. ` +
    'What is below is from then; the cluster may be well without it. Trying again…';
  $('lost').hidden = false;
  document.body.classList.add('stale');
  put($('link'), 'not live');
  document.title = 'not live · muster';
}

// ---- what it looks like

// show shows the state. What nobody sees can wait, but for the title.
function show() {
  const c = state, live = liveShards(c);
  document.title = (c.troubles.some(t => t.severity !== 'note') ? '⚠ ' : '') + `${count(live)}/${count(c.states.length)} live · ${c.cluster}`;
  if (document.hidden) return;
  put($('cluster'), `· ${c.cluster}`);
  put($('plan'), `generation ${c.generation}, ${plural(c.shards, 'shard')}, leader ${c.leader || 'none'}`);
  showTroubles(c, c.states.length - live);
  showTiles(c, live);
  showShards(c);
  showWorkers(c);
  showMoves(c);
  showIdentify(c);
  showOrders(c);
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  if (state) show();
  showHistory();
});

function showTroubles(c, notLive) {
  const list = c.troubles.map(t => {
    const li = make('li', '', { className: t.severity });
    li.append(make('strong', `${t.severity}: ${t.what}`));
    if (t.cure) li.append(make('span', t.severity === 'note' ? t.cure : `to do: ${t.cure}`));
    return li;
  });
  if (!list.length) list.push(make('li', notLive ? 'some shards are on their way; nothing to do' : 'nothing is wrong', { className: 'none' }));
  const text = list.map(li => li.textContent).join('\n');
  if ($('troubles').dataset.text === text) return; // a screen reader must not hear it twice a second
  $('troubles').dataset.text = text;
  $('troubles').replaceChildren(...list);
}

function showTiles(c, live) {
  put($('t-live'), `${count(live)} / ${count(c.states.length)}`);
  $('t-live').className = live < c.states.length ? 'bad' : '';
  put($('t-workers'), count(c.workers.length));
  put($('t-events'), count(c.workers.reduce((sum, w) => sum + w.events_per_second, 0)));
  put($('t-budget'), `${count(c.budget.remaining)} / ${count(c.budget.total)}`);
}

// Rows are kept, and with them the focus on a button in one.
const rows = new Map();
const byName = new Intl.Collator('en', { numeric: true }).compare;

function showWorkers(c) {
  const load = w => w.shards / w.capacity, busiest = Math.max(1, ...c.workers.map(load));
  const ranges = c.workers.map(() => []);
  c.ranges.forEach((owner, i) => { if (owner >= 0) ranges[owner].push(i); });
  const workers = c.workers.map((w, i) => [w, spans(ranges[i], c.range_size, c.shards).join(', ')]).sort(([a], [b]) => byName(a.id, b.id));
  const seen = new Set();
  workers.forEach(([w, which], i) => {
    seen.add(w.id);
    if (!rows.has(w.id)) rows.set(w.id, workerRow(w.id));
    const row = rows.get(w.id);
    fillRow(row, w, which, load(w), busiest);
    if (row !== $('workers').children[i]) $('workers').insertBefore(row, $('workers').children[i] || null);
  });
  for (const [id, row] of rows) if (!seen.has(id)) { row.remove(); rows.delete(id); }
}

function workerRow(id) {
  const row = make('tr');
  for (let i = 0; i < 12; i++) row.append(make('td'));
  row.cells[2].append(make('meter', '', { min: 0 }));
  row.cells[11].append(drainButton(id));
  return row;
}

function fillRow(row, w, which, load, busiest) {
  const meter = row.cells[2].firstChild, label = `${plural(w.shards, 'shard')} for capacity ${w.capacity}`;
  if (meter.ariaLabel !== label) meter.ariaLabel = meter.title = label;
  if (meter.max !== busiest) meter.max = busiest;
  if (meter.value !== load) meter.value = load;
  const texts = [w.id + (w.draining ? ' (draining)' : '') + (w.redis_failing ? ' (no Redis)' : ''), w.zone || '', null, count(w.shards), count(w.events_per_second),
    count(w.bytes_per_second / 1024), count(w.buffered_bytes / 1024), count(w.resumes), count(w.identifies), count(w.gaps), which];
  texts.forEach((text, i) => { if (text !== null) put(row.cells[i], text); });
  if (row.cells[10].title !== which) row.cells[10].title = which;
  labelDrain(row.cells[11].firstChild, w);
}

// spans writes ranges as shards: "0-3", "8-11".
function spans(indexes, size, shards) {
  const out = [];
  for (let i = 0; i < indexes.length; i++) {
    const from = i;
    while (indexes[i + 1] === indexes[i] + 1) i++;
    const first = indexes[from] * size, last = Math.min((indexes[i] + 1) * size, shards) - 1;
    out.push(first === last ? `${first}` : `${first}-${last}`);
  }
  return out;
}

// list shows items, or that there are none. It leaves what is there alone if that says the same.
function list(id, items, empty) {
  const all = items.length ? items : [make('li', empty, { className: 'empty' })];
  const text = all.map(li => li.textContent).join('\n');
  if ($(id).dataset.text === text) return;
  $(id).dataset.text = text;
  $(id).replaceChildren(...all);
}

const mostMoves = 10;

function showMoves(c) {
  const which = m => m.first_shard === m.last_shard ? `shard ${m.first_shard}` : `shards ${m.first_shard} to ${m.last_shard}`;
  const items = c.moves.slice(0, mostMoves).map(m => make('li', `${which(m)}: ${m.owner || 'nobody'} → ${m.move_to || 'nobody'}`));
  if (c.moves.length > mostMoves) items.push(make('li', `and ${count(c.moves.length - mostMoves)} more`));
  list('moves', items, 'none');
}

function showIdentify(c) {
  const b = c.budget, minutes = Math.max(0, Math.round((new Date(b.reset_at) - new Date(c.at)) / 60000));
  const left = minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  put($('budget'), `${count(b.remaining)} of ${count(b.total)} IDENTIFYs left, ${plural(b.max_concurrency, 'shard')} at a time; reset in ${left}, at ${clock(b.reset_at).slice(0, 5)}`);
  const busy = c.buckets.filter(k => k.state === 'open' || k.state === 'claimed');
  list('buckets', busy.slice(0, 40).map(k => make('li', `bucket ${k.bucket}: shard ${k.shard} ${k.state}`)), 'no bucket is in use');
}

function showHistory() {
  if (document.hidden) return;
  const last = samples[samples.length - 1];
  if (last) put($('t-latency'), `${last.latency_p50_ms.toFixed(1)} ms`);
  for (const p of plots) p.draw();
  list('incidents', happened.slice().reverse().slice(0, 50).map(i => {
    const li = make('li');
    li.append(make('time', clock(i.at), { dateTime: new Date(i.at).toISOString() }), i.text);
    return li;
  }), 'nothing since this coordinator started');
}

document.addEventListener('DOMContentLoaded', listen); // when all scripts are there
