// The page of one coordinator replica. It is told of the cluster by server-sent events (v1/live) and gives orders to the API
// (docs/protocol.md). Everything that comes from the cluster is put in as text, never as markup.
'use strict';

const $ = id => document.getElementById(id);
const make = (tag, text = '', props = {}) => Object.assign(document.createElement(tag), { textContent: text }, props);
const count = n => Math.round(n).toLocaleString('en');
const clock = at => new Date(at).toLocaleTimeString([], { hour12: false });

let state = null;       // the last state event
let samples = [];       // ten minutes, a second apart
let happened = [];      // incidents, oldest first
let chosen = -1;        // the shard that is looked at
let token = '';         // for orders; kept by nobody but this page while it is open

// ---- what we are told

function listen() {
  const source = new EventSource('v1/live');
  source.addEventListener('state', e => { state = JSON.parse(e.data); show(); linked(''); });
  source.addEventListener('history', e => {
    const news = JSON.parse(e.data);
    samples = samples.concat(news.samples || []).slice(-600);
    happened = happened.concat(news.incidents || []).slice(-100);
    showHistory();
  });
  source.onerror = () => {
    linked('this coordinator does not answer; trying again');
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
    else { samples = []; happened = []; } // a new connection tells all of it again
  };
}

function linked(trouble) {
  const link = $('link');
  link.classList.toggle('lost', trouble !== '');
  const text = trouble || `live, from ${state.answered_by}`;
  if (link.textContent !== text) link.textContent = text;
}

// ---- what it looks like

function show() {
  const c = state;
  $('cluster').textContent = `· ${c.cluster}`;
  $('plan').textContent = `generation ${c.generation}, ${count(c.shards)} shards, leader ${c.leader || 'none'}`;
  showTroubles(c);
  showTiles(c);
  showLegend(c);
  drawGrid();
  showWorkers(c);
  showMoves(c);
  showIdentify(c);
  showOrders(c);
}

function showTroubles(c) {
  const list = (c.troubles || []).map(t => {
    const li = make('li', '', { className: t.severity });
    li.append(make('strong', t.what), t.cure ? ` — ${t.cure}` : '');
    return li;
  });
  const text = list.map(li => li.textContent).join('\n');
  if ($('troubles').dataset.text === text) return; // a screen reader must not hear it twice a second
  $('troubles').dataset.text = text;
  $('troubles').replaceChildren(...list);
}

function showTiles(c) {
  const live = [...c.states].filter(s => nameOf(s) === 'live').length;
  $('t-live').textContent = `${count(live)} / ${count(c.states.length)}`;
  $('t-workers').textContent = count(c.workers.length);
  $('t-events').textContent = count(c.workers.reduce((sum, w) => sum + w.events_per_second, 0));
  $('t-budget').textContent = `${count(c.budget.remaining)} / ${count(c.budget.total)}`;
}

const nameOf = letter => state.state_names[letter.charCodeAt(0) - 97];

const colours = {
  live: '--live', resuming: '--resuming', identifying: '--identifying', asking: '--identifying', connecting: '--connecting', waiting: '--connecting',
  muted: '--muted', down: '--idle', unassigned: '--bad', failed: '--bad', unknown: '--idle',
};

const variable = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = state => variable(colours[state] || '--connecting');

function showLegend(c) {
  const counts = {};
  for (const letter of c.states) counts[letter] = (counts[letter] || 0) + 1;
  const items = Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([letter, n]) => {
    const mark = make('i');
    mark.style.background = colour(nameOf(letter));
    const li = make('li');
    li.append(mark, `${count(n)} ${nameOf(letter)}`);
    return li;
  });
  $('legend').replaceChildren(...items);
  const summary = `${count(c.states.length)} shards: ` + items.map(li => li.textContent).join(', ');
  if ($('grid').ariaLabel !== summary) $('grid').ariaLabel = summary;
}

// The grid: a cell for each shard, as large as fits; numbers where they can be read. A shard that is not live is drawn smaller too, so that
// it can be told without its colour.
let cells = { size: 1, columns: 1 };

function drawGrid() {
  const canvas = $('grid'), n = state.states.length, width = canvas.clientWidth;
  if (!width || !n) return;
  let size = 40;
  while (size > 5 && Math.ceil(n / Math.floor(width / size)) * size > 420) size--;
  const columns = Math.max(1, Math.floor(width / size)), rows = Math.ceil(n / columns), scale = window.devicePixelRatio || 1;
  cells = { size, columns };
  canvas.style.height = `${rows * size}px`;
  canvas.width = width * scale;
  canvas.height = rows * size * scale;
  const ink = canvas.getContext('2d');
  ink.scale(scale, scale);
  ink.textAlign = 'center';
  ink.textBaseline = 'middle';
  ink.font = `${Math.min(13, size / 2.6)}px system-ui, sans-serif`;
  const palette = {};
  for (const name of state.state_names) palette[name] = colour(name);
  const paper = variable('--paper');
  for (let shard = 0; shard < n; shard++) {
    const name = nameOf(state.states[shard]), x = (shard % columns) * size, y = Math.floor(shard / columns) * size;
    const gap = name === 'live' ? Math.max(.5, size / 20) : Math.max(1, size / 6);
    ink.fillStyle = palette[name];
    ink.fillRect(x + gap, y + gap, size - 2 * gap, size - 2 * gap);
    if (size >= 22) {
      ink.fillStyle = paper;
      ink.fillText(shard, x + size / 2, y + size / 2);
    }
    if (shard === chosen) {
      ink.strokeStyle = variable('--ink');
      ink.lineWidth = 2;
      ink.strokeRect(x + 1, y + 1, size - 2, size - 2);
    }
  }
}

function shardAt(event) {
  const box = $('grid').getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / cells.size), row = Math.floor((event.clientY - box.top) / cells.size);
  const shard = row * cells.columns + column;
  return column < cells.columns && state && shard < state.states.length ? shard : -1;
}

let asked = 0;

async function look(shard, closely) {
  if (!state || shard < 0 || shard >= state.states.length) return;
  if (shard === chosen && !closely) return;
  chosen = shard;
  drawGrid();
  const owner = state.workers[state.ranges[Math.floor(shard / state.range_size)]];
  $('shard').textContent = `shard ${shard}: ${nameOf(state.states[shard])}, ${owner ? owner.id : 'nobody'}`;
  if (!closely) return;
  $('look').value = shard;
  const question = ++asked;
  try {
    const s = await (await fetch(`v1/shards/${shard}`)).json();
    if (question !== asked) return;
    $('shard').textContent = `shard ${s.shard}: ${s.state}, ${s.worker || 'nobody'}, epoch ${s.epoch}, heartbeat ${s.latency_ms.toFixed(1)} ms` +
      (s.error ? `, ${s.error}` : '');
  } catch { /* what was shown stays */ }
}

$('grid').addEventListener('mousemove', e => look(shardAt(e), false));
$('grid').addEventListener('click', e => look(shardAt(e), true));
$('look').addEventListener('input', e => { if (e.target.value !== '') look(Number(e.target.value), true); });
$('grid').addEventListener('keydown', e => {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: cells.columns, ArrowUp: -cells.columns }[e.key];
  if (!step) return;
  e.preventDefault();
  look(Math.min(Math.max(chosen + step, 0), state.states.length - 1), true);
});
new ResizeObserver(() => { if (state) drawGrid(); }).observe($('grid'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (state) show(); });

// Rows are kept, and with them the focus on a button in one.
const rows = new Map();

function showWorkers(c) {
  const busiest = Math.max(1, ...c.workers.map(w => w.shards / w.capacity));
  const ranges = c.workers.map(() => []);
  c.ranges.forEach((owner, i) => { if (owner >= 0) ranges[owner].push(i); });
  const seen = new Set();
  c.workers.forEach((w, i) => {
    seen.add(w.id);
    let row = rows.get(w.id);
    if (!row) rows.set(w.id, row = workerRow(w.id));
    const load = row.cells[2].firstChild;
    load.max = busiest;
    load.value = w.shards / w.capacity;
    load.ariaLabel = `${w.shards} shards for capacity ${w.capacity}`;
    const put = (cell, text) => { if (row.cells[cell].textContent !== String(text)) row.cells[cell].textContent = text; };
    put(0, w.id + (w.draining ? ' (draining)' : '') + (w.redis_failing ? ' (no Redis)' : ''));
    put(1, w.zone || '');
    [w.shards, count(w.events_per_second), count(w.bytes_per_second / 1024), count(w.buffered_bytes / 1024), w.resumes, w.identifies, w.gaps]
      .forEach((text, k) => put(3 + k, text));
    put(10, spans(ranges[i], c.range_size, c.shards));
    row.cells[10].title = row.cells[10].textContent;
    const button = row.cells[11].firstChild;
    button.textContent = w.draining ? 'Drain off' : 'Drain';
    if (row !== $('workers').children[i]) $('workers').insertBefore(row, $('workers').children[i] || null);
  });
  for (const [id, row] of rows) if (!seen.has(id)) { row.remove(); rows.delete(id); }
}

function workerRow(id) {
  const row = make('tr');
  for (let i = 0; i < 12; i++) row.append(make('td'));
  row.cells[2].append(make('meter', '', { min: 0 }));
  const button = make('button', 'Drain');
  button.ariaLabel = `Drain ${id}`;
  button.addEventListener('click', () => {
    const w = state.workers.find(w => w.id === id);
    if (w && w.draining) order('DELETE', `v1/workers/${encodeURIComponent(id)}/drain`, null, `take the drain of ${id} back`);
    else confirm(`Drain ${id}?`, 'It hands over all its shards, by RESUME, and gets no more until it starts anew.', () =>
      order('POST', `v1/workers/${encodeURIComponent(id)}/drain`, {}, `drain ${id}`));
  });
  row.cells[11].append(button);
  return row;
}

// spans writes ranges as shards: "0-3, 8-11".
function spans(indexes, size, shards) {
  const out = [];
  for (let i = 0; i < indexes.length; i++) {
    let j = i;
    while (j + 1 < indexes.length && indexes[j + 1] === indexes[j] + 1) j++;
    const first = indexes[i] * size, last = Math.min((indexes[j] + 1) * size, shards) - 1;
    out.push(first === last ? `${first}` : `${first}-${last}`);
    i = j;
  }
  return out.join(', ');
}

function list(id, items, empty) {
  $(id).replaceChildren(...(items.length ? items : [make('li', empty, { className: 'empty' })]));
}

function showMoves(c) {
  const names = m => `${m.first_shard === m.last_shard ? `shard ${m.first_shard}` : `shards ${m.first_shard} to ${m.last_shard}`}: ${m.owner || 'nobody'} → ${m.move_to || 'nobody'}`;
  const items = c.moves.slice(0, 20).map(m => make('li', names(m)));
  if (c.moves.length > 20) items.push(make('li', `and ${c.moves.length - 20} more`));
  list('moves', items, 'none');
}

function showIdentify(c) {
  const b = c.budget;
  $('budget').textContent = `${count(b.remaining)} of ${count(b.total)} IDENTIFYs left, ${b.max_concurrency} at a time; resets ${new Date(b.reset_at).toLocaleString()}`;
  const busy = c.buckets.filter(k => k.state === 'open' || k.state === 'claimed');
  list('buckets', busy.slice(0, 40).map(k => make('li', `bucket ${k.bucket}: shard ${k.shard} ${k.state}`)), 'no bucket is in use');
}

function showOrders(c) {
  const d = c.directives, standing = [];
  $('o-up').disabled = !d.down;
  $('o-down').disabled = Boolean(d.down);
  if (d.rebalance) standing.push('load is being evened out');
  if (c.next) standing.push(`generation ${c.next.generation} with ${count(c.next.shards)} shards is being prepared: ${count(c.next.ready)} are ready`);
  else if (d.reshard && !d.reshard.refused) standing.push(`${count(d.reshard.shards)} shards are wanted`);
  if (c.finishing) standing.push(`${count(c.finishing)} ranges of the former generation are being brought to their ends`);
  $('standing').textContent = standing.join('; ');
}

function showHistory() {
  const last = samples[samples.length - 1];
  if (last) $('t-latency').textContent = `${last.latency_p50_ms.toFixed(1)} ms`;
  plot('p-events', [['one', 'events a second', s => s.events_per_second]]);
  plot('p-latency', [['two', 'slowest', s => s.latency_max_ms], ['one', 'median', s => s.latency_p50_ms]]);
  list('incidents', happened.slice().reverse().slice(0, 50).map(i => {
    const li = make('li');
    li.append(make('time', clock(i.at), { dateTime: new Date(i.at).toISOString() }), i.text);
    return li;
  }), 'nothing since this coordinator started');
}

// plot draws lines over the last ten minutes.
function plot(id, lines) {
  const ns = 'http://www.w3.org/2000/svg', width = $(id).clientWidth || 600, height = 144, left = 46, bottom = 18;
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('role', 'img');
  const end = samples.length ? samples[samples.length - 1].at : 0, span = 600000;
  const top = nice(Math.max(1, ...lines.flatMap(([, , value]) => samples.map(value))));
  const x = at => left + (width - left) * (1 - (end - at) / span), y = v => 4 + (height - bottom - 4) * (1 - v / top);
  const text = (words, atX, atY, anchor) => {
    const t = document.createElementNS(ns, 'text');
    t.setAttribute('x', atX); t.setAttribute('y', atY); t.setAttribute('text-anchor', anchor);
    t.textContent = words;
    svg.append(t);
  };
  for (const [kind, , value] of lines) {
    const line = document.createElementNS(ns, 'polyline');
    line.setAttribute('class', kind);
    line.setAttribute('points', samples.filter(s => end - s.at <= span).map(s => `${x(s.at).toFixed(1)},${y(value(s)).toFixed(1)}`).join(' '));
    svg.append(line);
  }
  text(count(top), left - 6, 12, 'end');
  text('0', left - 6, height - bottom + 4, 'end');
  text('10 min ago', left, height - 4, 'start');
  text('now', width - 4, height - 4, 'end');
  const last = samples[samples.length - 1];
  svg.setAttribute('aria-label', last ? lines.map(([, name, value]) => `${name} now ${value(last).toFixed(1)}`).join(', ') : 'no samples yet');
  $(id).replaceChildren(svg);
}

// nice is the next round number.
function nice(v) {
  const power = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 5, 10].map(k => k * power).find(r => r >= v);
}

// ---- orders

function confirm(title, text, yes, number) {
  $('ask-title').textContent = title;
  $('ask-text').textContent = text;
  $('ask-number-row').hidden = number === undefined;
  $('ask-token-row').hidden = title !== tokenTitle;
  if (number !== undefined) $('ask-number').value = number;
  const ask = $('ask');
  ask.onclose = () => { if (ask.returnValue === 'yes') yes(); };
  ask.returnValue = '';
  ask.showModal();
}

const tokenTitle = 'Admin token';

async function order(method, path, body, what) {
  const headers = {};
  if (body !== null) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === null ? undefined : JSON.stringify(body) });
  } catch {
    $('said').textContent = `${what}: this coordinator does not answer`;
    return;
  }
  if (answer.status === 401 || (answer.status === 403 && !token)) {
    token = '';
    confirm(tokenTitle, `To ${what} takes the admin token (MUSTER_ADMIN_TOKEN_FILE of the coordinator). It is kept only while this page is open.`, () => {
      token = $('ask-token').value;
      $('ask-token').value = '';
      order(method, path, body, what);
    });
    return;
  }
  $('said').textContent = answer.ok ? `ordered: ${what}` : `${what}: ${(await answer.text()).trim()}`;
}

$('o-rebalance').addEventListener('click', () => order('POST', 'v1/rebalance', {}, 'rebalance'));
$('o-up').addEventListener('click', () => order('POST', 'v1/up', {}, 'bring the cluster up'));
$('o-down').addEventListener('click', () => confirm('Take the whole cluster down?',
  'Every socket is closed, resumably, and stays closed until Up. Discord keeps the sessions for minutes only.', () => order('POST', 'v1/down', {}, 'take the cluster down')));
$('o-reshard').addEventListener('click', () => confirm('Change the number of shards?',
  'A new set of sessions is prepared beside the present one, within the identify budget, and takes over without downtime.',
  () => order('POST', 'v1/reshard', { shards: Number($('ask-number').value) }, `reshard to ${$('ask-number').value}`), state ? state.shards : 1));

listen();
