// The shards: a cell for each, as large as fits, and one that is looked at closely.
'use strict';

// What a state looks like. It can be told without its colour: by its letter, and where cells are too small for one, by the shape of its kind:
// a full square is live, a low one is on its way, a cross is bad, a dot is at rest.
const looks = {
  live: { letter: '✓', colour: '--live', ink: '--on-live', kind: 'live' },
  resuming: { letter: 'R', colour: '--resuming', kind: 'going' },
  identifying: { letter: 'I', colour: '--identifying', kind: 'going' },
  asking: { letter: 'A', colour: '--identifying', kind: 'going' },
  connecting: { letter: 'C', colour: '--connecting', kind: 'going' },
  waiting: { letter: 'W', colour: '--connecting', kind: 'going' },
  muted: { letter: 'M', colour: '--muted', kind: 'going' },
  stopped: { letter: 'S', colour: '--idle', kind: 'rest' },
  down: { letter: 'D', colour: '--idle', kind: 'rest' },
  halted: { letter: 'H', colour: '--bad', kind: 'bad' },
  unassigned: { letter: 'U', colour: '--bad', kind: 'bad' },
  failed: { letter: 'F', colour: '--bad', kind: 'bad' },
  unknown: { letter: '?', colour: '--idle', kind: 'rest' },
};

const nameOf = letter => state.state_names[letter.charCodeAt(0) - 97];
const lookOf = name => looks[name] || looks.unknown;

function liveShards(c) {
  const letter = String.fromCharCode(97 + c.state_names.indexOf('live'));
  return c.states.split(letter).length - 1;
}

let chosen = -1;        // the shard that is looked at
let closely = '';       // and what was known of it when it was asked for in detail

let shown = '';         // the states in the grid and the legend

function showShards(c) {
  const states = c.states + c.state_names.join();
  if (states !== shown) {
    shown = states;
    showLegend(c);
    drawGrid();
  }
  if (chosen >= 0 && closely && closely !== known(chosen)) look(chosen, true);
}

const mostSpans = 6;

// showLegend says how many shards are in each state, and, unless they are live, which.
function showLegend(c) {
  const which = new Map(c.state_names.map(name => [name, []]));
  for (let i = 0; i < c.states.length; i++) which.get(nameOf(c.states[i])).push(i);
  const states = [...which].filter(([, all]) => all.length).sort(([, a], [, b]) => b.length - a.length);
  const summary = states.map(([name, all]) => {
    const runs = name === 'live' ? [] : spans(all, 1, c.states.length);
    return [name, all.length, runs.slice(0, mostSpans).join(', ') + (runs.length > mostSpans ? ', …' : '')];
  });
  const text = summary.map(([name, n, runs]) => `${count(n)} ${name}` + (runs && ` (${runs})`)).join(', ');
  if ($('legend').dataset.text === text) return;
  $('legend').dataset.text = text;
  $('grid').ariaLabel = `${plural(c.states.length, 'shard')}: ${text}`;
  $('legend').replaceChildren(...summary.map(([name, n, runs]) => {
    const look = lookOf(name), mark = make('i', look.letter, { ariaHidden: 'true' });
    mark.style.background = `var(${look.colour})`;
    if (look.ink) mark.style.color = `var(${look.ink})`;
    const li = make('li');
    li.append(mark, `${count(n)} ${name} `, make('span', runs));
    return li;
  }));
}

const variable = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const largest = 40, smallest = 6, tallest = 420; // of a cell, and of the grid, in pixels
let cells = { size: 1, columns: 1, ink: null, paints: [] }; // as the grid is drawn

// across is how many cells are in a row: tens, or fives, if there is room, so that one can count.
function across(width, size) {
  const fit = Math.max(1, Math.floor(width / size));
  return fit < 20 ? fit : fit - fit % (fit < 50 ? 5 : 10);
}

function drawGrid() {
  const canvas = $('grid'), n = state.states.length, width = canvas.clientWidth;
  if (!width || !n) return;
  let size = largest;
  while (size > smallest && Math.ceil(n / across(width, size)) * size > tallest) size--;
  const columns = across(width, size), rows = Math.ceil(n / columns), scale = window.devicePixelRatio || 1;
  canvas.style.height = `${rows * size}px`;
  canvas.width = width * scale;
  canvas.height = rows * size * scale;
  const ink = canvas.getContext('2d');
  ink.scale(scale, scale);
  ink.textAlign = 'center';
  ink.textBaseline = 'middle';
  const paper = variable('--paper');
  const paints = state.state_names.map(name => {
    const look = lookOf(name);
    return { ...look, fill: variable(look.colour), text: look.ink ? variable(look.ink) : paper };
  });
  cells = { size, columns, ink, paints };
  for (let shard = 0; shard < n; shard++) drawCell(shard);
  mark(chosen);
}

const forLetter = 13, forNumber = 24, forBoth = 32; // the least sizes at which they can be read

function drawCell(shard) {
  const { size, columns, ink, paints } = cells, paint = paints[state.states.charCodeAt(shard) - 97];
  const x = (shard % columns) * size, y = Math.floor(shard / columns) * size, side = size - (size > 20 ? 2 : 1);
  ink.fillStyle = paint.fill;
  if (size >= forLetter || paint.kind === 'live' || paint.kind === 'bad') ink.fillRect(x, y, side, side);
  else if (paint.kind === 'going') ink.fillRect(x, y + Math.floor(side / 2), side, Math.ceil(side / 2));
  else ink.fillRect(x + side / 3, y + side / 3, side / 3, side / 3);
  if (size >= forLetter) writeIn(paint, shard, x + side / 2, y, side);
  else if (paint.kind === 'bad') cross(paint, x, y, side);
}

function writeIn(paint, shard, middle, y, side) {
  const { size, ink } = cells;
  const write = (text, at, height) => { ink.font = `${height}px system-ui, sans-serif`; ink.fillText(text, middle, y + side * at); };
  ink.fillStyle = paint.text;
  if (paint.kind === 'live') {
    if (size >= forNumber) write(shard, .5, Math.min(13, size / 2.6));
  } else if (size >= forBoth) {
    write(shard, .32, 11);
    write(paint.letter, .72, 13);
  } else {
    write(paint.letter, .5, size / 1.7);
  }
}

function cross(paint, x, y, side) {
  const { ink } = cells;
  ink.strokeStyle = paint.text;
  ink.lineWidth = 1;
  ink.beginPath();
  ink.moveTo(x, y); ink.lineTo(x + side, y + side);
  ink.moveTo(x + side, y); ink.lineTo(x, y + side);
  ink.stroke();
}

// mark draws a frame in a shard's cell; unmark takes it away.
function mark(shard) {
  if (!cells.ink || shard < 0 || shard >= state.states.length) return;
  const { size, columns, ink } = cells, side = size - 2;
  ink.strokeStyle = variable('--ink');
  ink.lineWidth = 2;
  ink.strokeRect((shard % columns) * size + 1, Math.floor(shard / columns) * size + 1, side - 2, side - 2);
}

function unmark(shard) {
  if (!cells.ink || shard < 0 || shard >= state.states.length) return;
  const { size, columns, ink } = cells;
  ink.clearRect((shard % columns) * size, Math.floor(shard / columns) * size, size, size);
  drawCell(shard);
}

function shardAt(event) {
  const box = $('grid').getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / cells.size), row = Math.floor((event.clientY - box.top) / cells.size);
  const shard = row * cells.columns + column;
  return column < cells.columns && state && shard < state.states.length ? shard : -1;
}

// known is what this page knows of a shard without asking.
function known(shard) {
  const owner = state.workers[state.ranges[Math.floor(shard / state.range_size)]];
  return `shard ${shard}: ${nameOf(state.states[shard])}, ${owner ? owner.id : 'nobody'}`;
}

let asked = 0;

// look shows a shard; closely: with what the coordinator knows of it.
async function look(shard, detailed) {
  if (!state || !(shard >= 0 && shard < state.states.length) || (shard === chosen && !detailed)) return;
  const question = ++asked;
  unmark(chosen);
  mark(shard);
  chosen = shard;
  closely = detailed ? known(shard) : '';
  if (!detailed) {
    put($('shard'), known(shard));
    return;
  }
  if (document.activeElement !== $('look')) $('look').value = shard;
  try {
    const s = await (await fetch(`v1/shards/${shard}`)).json();
    if (question !== asked) return;
    put($('shard'), `shard ${s.shard}: ${s.state}, ${s.worker || 'nobody'}, epoch ${s.epoch}, heartbeat ${s.latency_ms.toFixed(1)} ms` + (s.error ? `, ${s.error}` : ''));
  } catch {
    if (question === asked) put($('shard'), known(shard));
  }
}

// refuseLook says that there is no such shard; an answer that is still to come must not replace that.
function refuseLook() {
  asked++;
  closely = '';
  put($('shard'), `no such shard: there are those from 0 to ${state.states.length - 1}`);
}

$('grid').addEventListener('mousemove', e => look(shardAt(e), false));
$('grid').addEventListener('click', e => look(shardAt(e), true));
$('look').addEventListener('input', e => {
  if (e.target.value === '') return;
  const shard = Number(e.target.value);
  if (state && !(shard < state.states.length)) refuseLook();
  else look(shard, true);
});
$('grid').addEventListener('keydown', e => {
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: cells.columns, ArrowUp: -cells.columns, Home: -Infinity, End: Infinity }[e.key];
  if (!step || !state || e.ctrlKey || e.altKey || e.metaKey) return;
  e.preventDefault();
  look(Math.min(Math.max(chosen + step, 0), state.states.length - 1), true);
});
new ResizeObserver(() => { if (state) drawGrid(); }).observe($('grid'));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (state) drawGrid(); });
