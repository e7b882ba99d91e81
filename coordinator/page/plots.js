// Lines over the last ten minutes of samples, with their values now, or where one points.
'use strict';

const span = 600000; // milliseconds
const box = { height: 144, left: 46, right: 6, top: 6, bottom: 18 };

const part = (tag, attributes, text = '') => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
};

// nice is the next round number.
function nice(v) {
  const power = 10 ** Math.floor(Math.log10(v));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].map(k => k * power).find(r => r >= v);
}

class Plot {
  // Each line has a class, a name and a value of a sample.
  constructor(id, lines, digits) {
    const format = new Intl.NumberFormat('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
    Object.assign(this, { figure: $(`p-${id}`), key: $(`k-${id}`), lines, format, pointed: null });
    this.figure.addEventListener('pointermove', e => {
      const part = (e.offsetX - box.left) / (this.figure.clientWidth - box.left - box.right);
      this.pointed = part >= 0 && part <= 1 ? part : null;
      this.draw();
    });
    this.figure.addEventListener('pointerleave', () => { this.pointed = null; this.draw(); });
  }

  draw() {
    if (!samples.length) return;
    const width = this.figure.clientWidth || 600, end = samples[samples.length - 1].at, shown = samples.filter(s => end - s.at <= span);
    const top = nice(Math.max(1, ...this.lines.flatMap(l => shown.map(l.value))));
    const x = at => box.left + (width - box.left - box.right) * (1 - (end - at) / span);
    const y = v => box.top + (box.height - box.top - box.bottom) * (1 - v / top);
    const svg = part('svg', { viewBox: `0 0 ${width} ${box.height}`, role: 'img' });
    for (const v of [0, top / 2, top]) {
      svg.append(part('line', { x1: box.left, x2: width - box.right, y1: y(v), y2: y(v) }),
        part('text', { x: box.left - 6, y: y(v) + 4, 'text-anchor': 'end' }, v.toLocaleString('en')));
    }
    svg.append(part('text', { x: box.left, y: box.height - 4, 'text-anchor': 'start' }, '10 min ago'),
      part('text', { x: width - box.right, y: box.height - 4, 'text-anchor': 'end' }, 'now'));
    for (const l of this.lines) {
      svg.append(part('polyline', { class: l.kind, points: shown.map(s => `${x(s.at).toFixed(1)},${y(l.value(s)).toFixed(1)}`).join(' ') }));
    }
    const sample = this.pointed === null ? shown[shown.length - 1] : nearest(shown, end - span * (1 - this.pointed));
    if (this.pointed !== null) svg.append(part('line', { class: 'point', x1: x(sample.at), x2: x(sample.at), y1: box.top, y2: box.height - box.bottom }));
    svg.setAttribute('aria-label', this.label(shown[shown.length - 1], 'now'));
    this.figure.replaceChildren(svg);
    this.tell(sample);
  }

  text(line, sample) { return this.format.format(line.value(sample)); }

  label(sample, when) { return this.lines.map(l => `${l.name} ${when} ${this.text(l, sample)}`).join(', '); }

  tell(sample) {
    const what = this.lines.flatMap(l => [make('i', '', { className: l.kind }), `${l.name} ${this.text(l, sample)}`]);
    this.key.replaceChildren(this.pointed === null ? 'now' : `at ${clock(sample.at)}`, ...what);
  }
}

const nearest = (all, at) => all.reduce((best, s) => Math.abs(s.at - at) < Math.abs(best.at - at) ? s : best);

const plots = [
  new Plot('events', [{ kind: 'one', name: 'events', value: s => s.events_per_second }], 0),
  new Plot('latency', [{ kind: 'two', name: 'slowest', value: s => s.latency_max_ms }, { kind: 'one', name: 'median', value: s => s.latency_p50_ms }], 1),
];
