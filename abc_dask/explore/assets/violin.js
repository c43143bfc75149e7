// Violins: how a gene's values, or a column's numbers, lie in each group, from exact counts of steps.

import { MISSING, stepEdge, stepValue } from './color.js';
import { csvButton, note, row, rowName, scroll } from './controls.js';
import { s } from './dom.js';
import { setsOf, stepCounts } from './stats.js';
import { csv, cut, number, short, termName } from './text.js';

const MOST_ROWS = 60;
const [LEFT, ZEROS, WIDE, TALL, WIDTH] = [150, 30, 124, 24, 8]; // pixels; steps of a bin

// Cells of each group and set by step: 0 is zero, 255 no value.
export async function distributions(app, key, by) {
  const column = await app.column(key), groups = await app.column(`t:${by}`), sets = setsOf(app);
  const counted = sets.map((set) => stepCounts(column.codes, groups, set, app.model.flags)), rows = [];
  [...groups.terms, null].forEach((term, g) => {
    const own = counted.map((found) => found.subarray(256 * g, 256 * (g + 1)));
    if (!own.some((steps) => steps.some(Boolean))) return;
    own.forEach((steps, k) => rows.push({ term, set: sets[k], steps, color: groups.colors[g] ?? MISSING[app.theme] }));
  });
  return { by, column, sets, rows };
}

export function stepsCsv({ by, column, rows }) {
  const { about } = column, edges = (step) => (step === 255 ? ['', ''] : about.zero && !step ? [0, 0] : [stepEdge(about, step), stepEdge(about, step + 1)]);
  const lines = rows.flatMap(({ term, set, steps }) => [...steps].flatMap((n, step) => (n ? [[term ?? '', set, ...edges(step), n]] : [])));
  return csv([[by, 'set', `${column.name} from`, 'below', 'cells'], ...lines]);
}

// Of the values that are not zero: bins, how many, and the step that the middle one is in.
function shape(about, steps) {
  const first = about.zero ? 1 : 0, own = steps.subarray(first, first + 254), sum = own.reduce((a, b) => a + b, 0);
  const bins = Array.from({ length: Math.ceil(own.length / WIDTH) }, (_, b) => own.subarray(b * WIDTH, (b + 1) * WIDTH).reduce((a, n) => a + n, 0));
  let step = 0, passed = own[0];
  while (step < own.length - 1 && passed < sum / 2) passed += own[++step];
  return { bins, sum, value: stepValue(about, step + first), part: (step + 0.5) / own.length };
}

export function violins(app, found) {
  const { column, sets, rows } = found, { about } = column;
  const few = rows.slice(0, MOST_ROWS * sets.length), at = LEFT + (about.zero ? ZEROS + 8 : 0), wide = WIDE + LEFT + ZEROS + 8 - at;
  const height = 20 + few.length * TALL;
  const svg = s('svg', { width: at + wide + 6, height: height + 18, class: 'dots violins', role: 'img', 'aria-label': `Violins of ${column.title} by ${found.by}; the counts can be saved as CSV` });
  const write = (text, x, y, more = {}) => svg.append(s('text', { x, y, 'font-size': 11, ...more }, text));
  if (about.zero) write('zero', LEFT, 12);
  write(cut(column.title, 18), at, 12);
  few.forEach((row, r) => {
    const y = 20 + (r + 0.5) * TALL, { bins, sum, value, part } = shape(about, row.steps);
    const zeros = about.zero ? row.steps[0] : 0, known = zeros + sum;
    rowName(svg, row, r, sets, LEFT, y);
    const own = s('g', { fill: row.color });
    if (zeros) own.append(s('rect', { x: LEFT, y: y - 5, width: (ZEROS * zeros) / known, height: 10, class: 'zeros' }));
    if (sum) {
      const most = Math.max(...bins), edge = (side) => bins.map((n, b) => `${(at + (wide * (b + 0.5)) / bins.length).toFixed(1)},${(y + (side * 11 * n) / most).toFixed(1)}`);
      own.append(s('polygon', { points: [...edge(-1), ...edge(1).reverse()].join(' '), class: 'violin' }),
        s('path', { d: `M${at + wide * part} ${y - 7}v14`, class: 'bar' }));
    }
    own.append(s('title', {}, `${termName(row.term)}${sets.length > 1 ? `, ${row.set}` : ''}: ${number(known)} values${about.zero ? `, ${(100 * zeros / Math.max(1, known)).toFixed(1)} % zero` : ''}${sum ? `, median of the others ${short(value)}` : ''}`));
    svg.append(own);
  });
  write(short(about.low), at, height + 12);
  write(short(about.high), at + wide, height + 12, { 'text-anchor': 'end' });
  const rest = (rows.length - few.length) / sets.length;
  return [
    scroll(svg),
    note(`${about.zero ? 'Bar: share of zeros. Shape: values that are not zero' : 'Shape: values'}, each to its own height; line: their median. Counts are exact, in steps of ${short((about.high - about.low) / 254)}.${rest > 0 ? ` The CSV has ${number(rest)} more groups.` : ''}`),
    row(csvButton(app, 'Save counts as CSV', 'violins.csv', () => stepsCsv(found))),
  ];
}
