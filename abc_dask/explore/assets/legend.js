// The panel of colours: terms with counts and ticks, a gene's scale and histogram.

import { MISSING, hex, mixed, pairColors, partOf, ramp, rgb, stepEdge, stepValue, valueColor, zeroColor } from './color.js';
import { choice, note, row, section, tick } from './controls.js';
import { button, h, s } from './dom.js';
import { counted, counts, keeper, noTerm } from './model.js';
import { pair } from './pair.js';
import { number, short, termName, titleOf } from './text.js';

const MOST_ROWS = 400;

export function panel(app) {
  const { state } = app, parts = [];
  parts.push(choice('Colour by', app.colourings(), app.keyOf(state.color), (key) => app.colourBy(key)));
  if (state.color?.gene) {
    const others = app.colourings().filter(([key]) => key.startsWith('g:') && key !== app.keyOf(state.color));
    parts.push(choice('and by', [['', 'no second gene'], ...others], state.second ? `g:${state.second}` : '', (key) => app.second(key.slice(2) || null)));
  }
  const column = app.current();
  if (column?.kind === 'term') parts.push(...terms(app, column));
  if (column?.kind === 'value') {
    if (state.second && app.other()) parts.push(...pair(app, column, app.other()));
    parts.push(values(app, column, 'limits'));
    if (state.second && app.other()) parts.push(values(app, app.other(), 'limits2'));
  }
  parts.push(others(app, column));
  parts.push(section('Points',
    h('label', { class: 'line' }, h('span', {}, 'Size'), slider(app)),
    tick('Show filtered cells in grey', state.context, (on) => app.set({ context: on }))));
  return parts;
}

function slider(app) {
  const input = h('input', { type: 'range', min: -2, max: 3, step: 0.25, value: Math.log2(app.state.size), 'aria-label': 'Size of points',
    oninput: () => app.set({ size: 2 ** input.value }) });
  return input;
}

// Terms, and behind them what stands for a missing one, with their codes and colours.
export const entriesOf = ({ terms, colors, width }, theme) => [...terms.map((term, code) => [term, code, colors[code]]), [null, noTerm(width), MISSING[theme]]];

function terms(app, column) {
  const filter = app.state.filters[column.key];
  const { all, shown } = counts(column, app.model.out, filter, app.model.n);
  const kept = keeper(filter);
  const present = entriesOf(column, app.theme).filter(([, code]) => all[code]);
  const narrow = h('input', { type: 'search', placeholder: 'Narrow the list', 'aria-label': 'Narrow the list of terms' });
  const list = h('ul', { class: 'terms' });
  const rest = h('p', { class: 'faint' });
  const fill = () => {
    const word = narrow.value.toLowerCase();
    const found = present.filter(([term]) => (termName(term)).toLowerCase().includes(word));
    list.replaceChildren(...found.slice(0, MOST_ROWS).map(entry));
    rest.textContent = found.length > MOST_ROWS ? `and ${number(found.length - MOST_ROWS)} more; narrow the list to see them` : '';
  };
  const entry = ([term, code, color]) => {
    const name = termName(term);
    const box = h('input', { type: 'checkbox', checked: kept(term), 'aria-label': `Show ${name}`, onchange: () => toggle(term, box.checked) });
    const only = button(name, () => app.filter(column.key, { only: [term] }), { title: `Only ${name}`, class: term === null ? 'term missing' : 'term' });
    const count = shown[code] === all[code] ? number(all[code]) : `${number(shown[code])} of ${number(all[code])}`;
    const light = (on) => () => app.highlight(on ? code : -1);
    return h('li', { onpointerenter: light(true), onpointerleave: light(false), onfocusin: light(true), onfocusout: light(false) }, box, h('span', { class: 'swatch', color }), only, h('span', { class: 'count' }, count));
  };
  const toggle = (term, on) => {
    const every = present.map(([t]) => t);
    const now = every.filter((t) => (t === term ? on : kept(t)));
    const not = every.filter((t) => !now.includes(t));
    app.filter(column.key, !not.length ? null : now.length < not.length ? { only: now } : { not });
  };
  narrow.addEventListener('input', fill);
  fill();
  const tools = row(present.length > 12 ? narrow : null,
    button('All', () => app.filter(column.key, null)), button('None', () => app.filter(column.key, { only: [] })),
    button('Invert', () => app.filter(column.key, filter?.only ? { not: filter.only } : { only: filter?.not ?? [] })));
  return [tools, note('A name shows its cells alone, a tick shows or hides them.'), list, rest];
}

function values(app, column, which) {
  const { about, key } = column, { state } = app;
  const filter = state.filters[key];
  const { all, shown } = counts(column, app.model.out, filter, app.model.n);
  const first = about.zero ? 1 : 0, last = about.zero ? 254 : 253;
  const [from, to, zero, missing] = filter?.steps ?? [first, last, 1, 1];
  const change = (changed) => {
    const steps = [from, to, zero, missing].map((v, k) => changed[k] ?? v);
    app.filter(key, steps[0] <= first && steps[1] >= last && steps[2] && steps[3] ? null : { steps });
  };
  const limits = app.limits(which);
  const edit = (k) => {
    const input = h('input', { type: 'number', step: 'any', value: short(limits[k]), 'aria-label': `${k ? 'Highest' : 'Lowest'} value of the scale of ${column.name}`,
      onchange: () => {
        const pair = limits.with(k, Number(input.value));
        if (pair.every(Number.isFinite) && pair[0] < pair[1]) app.set({ [which]: pair });
        else input.value = short(limits[k]);
      } });
    return input;
  };
  const bounds = [0, 1].map((k) => {
    const input = h('input', { type: 'range', min: first, max: last, value: k ? to : from, 'aria-label': `${k ? 'Highest' : 'Lowest'} value of ${column.name} that is shown`,
      onchange: () => change(k ? [, Math.max(from, Number(input.value))] : [Math.min(to, Number(input.value))]) });
    return input;
  });
  const range = from > to ? 'none' : `${short(stepEdge(about, from))} to ${short(stepEdge(about, to + 1))}`;
  return section(titleOf(column),
    state.second ? null : bar(app, limits),
    h('div', { class: 'row scale' }, h('span', {}, 'Scale'), edit(0), h('span', {}, 'to'), edit(1), button('Reset', () => app.set({ [which]: null }))),
    histogram(app, column, all, shown, stepColor(app, about, which, limits), [from, to], (a, b) => change([a, b])),
    app.sizes.A || app.sizes.B ? note('Lines: A and B above zero, each to its own height.') : null,
    h('div', { class: 'bounds' }, ...bounds),
    note(`Shown: ${range}, in steps of ${short((about.high - about.low) / 254)}. Draw over the histogram, or move its ends, to show fewer cells.`),
    about.zero ? tick(`Zero: ${number(all[0])} cells`, Boolean(zero), (on) => change([, , Number(on)])) : null,
    all[255] ? tick(`No value: ${number(all[255])} cells`, Boolean(missing), (on) => change([, , , Number(on)])) : null,
    filter ? button('All values', () => app.filter(key, null)) : null);
}

function bar(app, limits) {
  const stops = Array.from({ length: 24 }, (_, k) => s('rect', { x: k * 10, y: 0, width: 10.5, height: 10, fill: hex(ramp(k / 23, app.theme)) }));
  const ground = s('rect', { x: 0, y: 0, width: 14, height: 10, fill: zeroColor(app.theme) });
  return h('div', { class: 'scalebar' },
    s('svg', { viewBox: '0 0 14 10', class: 'zero', role: 'img', 'aria-label': 'Zero is grey' }, ground),
    s('svg', { viewBox: '0 0 240 10', preserveAspectRatio: 'none', role: 'img', 'aria-label': `Colours from ${short(limits[0])} to ${short(limits[1])}` }, ...stops));
}

// The colour that the picture has for a step: of one gene, or of one of two where the other is zero.
function stepColor({ state, theme }, about, which, limits) {
  if (!state.second) return (step) => valueColor(about, limits, theme, step);
  const own = rgb(pairColors(theme)[Number(which === 'limits2')]);
  return (step) => mixed(rgb(zeroColor(theme)), own, Math.min(1, Math.max(0, partOf(stepValue(about, step), limits))));
}

function histogram(app, column, all, shown, colorOf, [from, to], brush) {
  const { about } = column, first = about.zero ? 1 : 0, bars = 64, width = 256 / bars;
  const sums = (steps) => Array.from({ length: bars }, (_, b) => {
    let sum = 0;
    for (let step = b * width; step < (b + 1) * width; step++) if (step >= first && step < 255) sum += steps[step];
    return sum;
  });
  const grey = sums(all), most = Math.max(1, ...grey);
  const svg = s('svg', { viewBox: '0 0 256 60', preserveAspectRatio: 'none', class: 'histogram', role: 'img', 'aria-label': `Histogram of the values of ${column.name} above zero; draw over it to choose a range` });
  [grey, sums(shown)].forEach((tall, k) => tall.forEach((sum, b) => {
    const height = (56 * sum) / most, middle = Math.min(254, b * width + width / 2);
    const fill = k ? hex(colorOf(Math.round(middle))) : zeroColor(app.theme);
    svg.append(s('rect', { x: b * width, y: 60 - height, width: width - 0.6, height, fill }));
  }));
  // shares of A and B, each of its own cells above zero
  for (const set of ['A', 'B'].filter((name) => app.sizes[name])) {
    const found = counted(column.codes, app.model.flags, set), tall = sums(found), sum = tall.reduce((a, b) => a + b, 0);
    const high = Math.max(...tall);
    if (sum) svg.append(s('polyline', { points: tall.map((n, b) => `${(b + 0.5) * width},${60 - (56 * n) / high}`).join(' '), class: `set ${set}`, fill: 'none', 'stroke-width': 1.5, 'vector-effect': 'non-scaling-stroke' }, s('title', {}, `${set}: ${number(sum)} cells`)));
  }
  const left = Math.max(0, from), right = Math.min(256, to + 1);
  const frame = s('rect', { x: left, y: 0, width: Math.max(0, right - left), height: 60, class: 'brush' });
  svg.append(frame);
  let start = null;
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(254, Math.max(first, Math.round(((event.clientX - box.left) / box.width) * 256)));
  };
  svg.addEventListener('pointerdown', (e) => { svg.setPointerCapture(e.pointerId); start = at(e); });
  svg.addEventListener('pointermove', (e) => {
    if (start === null) return;
    frame.setAttribute('x', Math.min(start, at(e)));
    frame.setAttribute('width', Math.abs(at(e) - start) + 1);
  });
  svg.addEventListener('pointerup', (e) => {
    const end = at(e), moved = Math.abs(end - start) > 1;
    if (moved) brush(Math.min(start, end), Math.max(start, end));
    start = null;
  });
  return svg;
}

// Filters on columns that are not shown: they stay, and can be taken away here.
function others(app, column) {
  const keys = Object.keys(app.state.filters).filter((key) => key !== column?.key);
  if (!keys.length) return null;
  return section('Other filters', ...keys.map((key) => row(
    button(app.nameOfKey(key), () => app.colourBy(key), { class: 'term', title: 'Colour by it' }),
    h('span', { class: 'faint' }, told(app.state.filters[key], app.columns.get(key))),
    button('Remove', () => app.filter(key, null), { 'aria-label': `Remove the filter on ${app.nameOfKey(key)}` }))));
}

function told(filter, column) {
  if (filter.steps) return column ? `${short(stepEdge(column.about, filter.steps[0]))} to ${short(stepEdge(column.about, filter.steps[1] + 1))}` : 'a range';
  const names = (filter.only ?? filter.not).map((term) => termName(term));
  const few = names.length > 2 ? `${names.length} terms` : names.join(', ') || 'nothing';
  return filter.only ? `only ${few}` : `without ${few}`;
}
