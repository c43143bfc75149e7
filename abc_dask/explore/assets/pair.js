// Two genes at once: which of them cells have, and one against the other.

import { MISSING, pairColors, ramp, stepValue, zeroColor } from './color.js';
import { note } from './controls.js';
import { h } from './dom.js';
import { number, short } from './text.js';

const BINS = 64; // across each gene: zero, and 63 of four steps or so

// Of the cells that are shown: those with neither gene, the first one, the second one, both above
// zero, and those without a value; and how many lie in each square of one gene against the other.
export function pairCounts(one, two, out) {
  const above = ({ about }) => Uint8Array.from({ length: 256 }, (_, step) => (step === 255 ? 4 : Number(stepValue(about, step) > 0)));
  const bins = ({ about: { zero } }) => Uint8Array.from({ length: 256 }, (_, step) => (zero && !step ? 0 : 1 + Math.min(BINS - 2, (step - Number(zero)) >> 2)));
  const [a, b, x, y] = [above(one), above(two), bins(one), bins(two)];
  const found = [0, 0, 0, 0, 0], squares = new Uint32Array(BINS * BINS);
  for (let i = 0; i < out.length; i++) {
    if (out[i]) continue;
    const p = one.codes[i], q = two.codes[i], kind = Math.min(4, a[p] + 2 * b[q]);
    found[kind]++;
    if (kind < 4) squares[BINS * y[q] + x[p]]++;
  }
  return { found, squares };
}

// Colours of the kinds of cells, what they are called, and their rank in counts.
export function pairKinds(one, two, theme) {
  const [first, second, both] = pairColors(theme);
  return [[first, `${one.name} alone`, 1], [second, `${two.name} alone`, 2], [both, 'both', 3], [zeroColor(theme), 'neither', 0], [MISSING[theme], 'no value', 4]];
}

export function pair(app, one, two) {
  const { theme } = app, { found, squares } = pairCounts(one, two, app.model.out), rows = pairKinds(one, two, theme);
  const range = ({ title, about }) => `${title}, ${about.zero ? 'zero, then ' : ''}${short(about.low)} to ${short(about.high)}`;
  return [
    h('ul', { class: 'terms pair' }, ...rows.filter(([, , k]) => k < 4 || found[k]).map(([color, text, k]) => h('li', {},
      h('span', { class: 'swatch', color }), h('span', { class: 'term' }, text), h('span', { class: 'count' }, number(found[k]))))),
    h('details', { open: app.against, ontoggle: (event) => { app.against = event.target.open; } }, h('summary', {}, 'One against the other'),
      against(squares, theme, `Cells by ${one.title} across and ${two.title} upwards`),
      note(`Across: ${range(one)}. Upwards: ${range(two)}. Colour: cells of a square, up to ${number(Math.max(...squares))}, on a log scale.`)),
  ];
}

function against(squares, theme, label) {
  const canvas = h('canvas', { width: BINS, height: BINS, class: 'against', role: 'img', 'aria-label': label });
  const context = canvas.getContext('2d'), image = context.createImageData(BINS, BINS), most = Math.log1p(Math.max(...squares));
  squares.forEach((n, k) => {
    const at = 4 * (BINS * (BINS - 1 - Math.floor(k / BINS)) + (k % BINS));
    if (n) image.data.set([...ramp(Math.log1p(n) / most, theme), 255], at);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
