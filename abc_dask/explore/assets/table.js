// Dots and table of genes by groups, for what is shown or for the selections A and B.

import { hex, ramp, stepValue, zeroColor } from './color.js';
import { choice, csvButton, grid, note, row, rowName, scroll } from './controls.js';
import { button, h, s } from './dom.js';
import { hire } from './hire.js';
import { cellCounts, geneStatistics, setsOf, tableBy, tableGenes } from './stats.js';
import { MOST_GENES } from './state.js';
import { csv, cut, number, short, termName } from './text.js';

const MOST_DOTS = 60;
const radius = (share) => Math.max(0.8, 8.5 * Math.sqrt(share));

// Numbers of all groups and sets: exact where the folder has exact values. Null where `say`
// returns false, since nobody waits for them any more.
export async function tabulate(app, by, genes, say = () => {}) {
  const column = await app.column(`t:${by}`);
  const { model } = app, sets = setsOf(app);
  const cells = cellCounts(column, sets, model.flags, model.n);
  const found = [];
  const next = () => found.length === genes.length || say(`Reading ${genes[found.length].title} (${found.length + 1} of ${genes.length})`);
  let wanted = next();
  if (app.meta.exact) {
    const given = { genes: genes.map((gene) => gene.index), column, sets, flags: model.flags };
    await hire(app, 'statistics', given, (own) => { found.push(own); return (wanted = next()); });
  } else {
    for (const gene of genes) {
      if (wanted === false) break;
      found.push(geneStatistics(quantised(await app.column(gene.key)), column, sets, model.flags));
      wanted = next();
    }
  }
  if (wanted === false) return null;
  const rows = [];
  [...column.terms, null].forEach((term, g) => {
    sets.forEach((set, k) => {
      if (!cells.some((counted) => counted[g])) return;
      const statistics = found.map((own) => ({ mean: own[k].mean[g], count: own[k].count[g], fraction: own[k].positive[g] / own[k].count[g] }));
      rows.push({ term, set, cells: cells[k][g], statistics });
    });
  });
  return { by, genes, sets, rows, exact: app.meta.exact };
}

function quantised({ about, codes }) {
  const values = Float64Array.from({ length: 256 }, (_, step) => stepValue(about, step));
  return (start, stop) => Float64Array.from(codes.subarray(start, stop), (code) => values[code]);
}

export function tableCsv(table) {
  const note = table.exact ? '' : ' (of values in 254 steps)';
  const head = [table.by, 'set', 'cells', ...table.genes.flatMap((g) => [`${g.name} mean${note}`, `${g.name} fraction`, `${g.name} count`])];
  return csv([head, ...table.rows.map((row) => [row.term ?? '', row.set, row.cells, ...row.statistics.flatMap((o) => [o.mean, o.fraction, o.count])])]);
}

export function panel(app) {
  const { state } = app;
  if (!app.termNames().length || !app.genes.length) return [h('p', {}, 'A table needs a column of terms and a gene.')];
  const by = tableBy(app), genes = tableGenes(app);
  const chips = genes.map((gene) => button(`${gene.title} ×`, () => app.set({ genes: genes.filter((g) => g !== gene).map((g) => g.id) }), { 'aria-label': `Remove ${gene.title} from the table` }));
  const left = app.genes.filter((gene) => !genes.includes(gene)).slice(0, 200);
  const add = left.length && genes.length < MOST_GENES
    ? choice('Add a gene', [['', left.length < app.genes.length - genes.length ? 'or search above' : ''], ...left.map((g) => [g.id, g.title])], '', (id) => id && app.set({ genes: [...genes.map((g) => g.id), id] }))
    : null;
  const place = h('div', { 'aria-live': 'polite' });
  const parts = [choice('Groups', app.termNames().map((name) => [name, name]), by, (name) => app.set({ by: name })), h('div', { class: 'chips' }, ...chips), add, place];
  const wanted = (app.tableNumber = (app.tableNumber ?? 0) + 1);
  const say = (text) => wanted === app.tableNumber && place.replaceChildren(note(text));
  const about = JSON.stringify([by, genes.map((gene) => gene.id), state.filters, state.A, state.B]);
  if (app.table?.about === about) place.append(...shown(app, app.table));
  else if (!genes.length) say('No gene is in the table: add one.');
  else {
    app.attempt(async () => {
      const table = await tabulate(app, by, genes, say);
      if (!table || wanted !== app.tableNumber) return;
      app.table = { ...table, about };
      place.replaceChildren(...shown(app, table));
    });
  }
  return parts.filter(Boolean);
}

function shown(app, table) {
  if (!table.rows.length) return [note('No cells are shown: remove a filter.')];
  const words = { A: 'A', B: 'B', shown: 'cells that are shown' };
  const about = table.exact
    ? 'Exact: mean of all values, share of values above 0; cells without a value are left out.'
    : 'Means are of values in 254 steps, not exact; shares are exact.';
  const sets = table.sets.map((set) => words[set]).join(' and ');
  const name = `table-${table.by}.csv`.replace(/[^\w.-]/g, '_');
  return [
    note(`Of ${sets}. ${about}`),
    row(csvButton(app, 'Save as CSV', name, () => tableCsv(table))),
    dots(app, table), ...violinsOf(app, table), numbers(table),
  ];
}

// A choice of what violins are of; they are read when it is made.
function violinsOf(app, { by, genes }) {
  const { state } = app, key = app.isKey(state.violin) ? state.violin : null, box = h('div');
  const known = new Map([...genes.map((gene) => [gene.key, gene.title]), ...app.meta.numbers.map((o) => [`n:${o.name}`, o.name])]);
  if (key) {
    known.set(key, app.nameOfKey(key));
    const wanted = app.tableNumber;
    app.attempt(async () => {
      const { distributions, violins } = await import('./violin.js');
      const found = await distributions(app, key, by);
      if (wanted === app.tableNumber) box.replaceChildren(...violins(app, found));
    });
  }
  return [choice('Violins of', [['', 'none'], ...known], key, (chosen) => app.set({ violin: chosen || null })), box];
}

function dots(app, table) {
  const few = table.rows.slice(0, MOST_DOTS * table.sets.length);
  const size = 20, head = 74, left = 150, n = table.genes.length;
  const highs = table.genes.map((_, k) => Math.max(0, ...table.rows.map((r) => r.statistics[k].mean).filter(Number.isFinite)));
  const svg = s('svg', { width: left + n * size + 24, height: head + few.length * size + 6, class: 'dots', role: 'img', 'aria-label': `Dots: share of cells above zero as area, mean as colour, by ${table.by}; the table below has the numbers` });
  table.genes.forEach((gene, k) => svg.append(s('text', { transform: `translate(${left + k * size + 13},${head - 6}) rotate(-50)`, 'font-size': 11 }, cut(gene.title, 11))));
  few.forEach((row, r) => {
    const y = head + r * size + 10;
    rowName(svg, row, r, table.sets, left, y);
    row.statistics.forEach((own, k) => {
      if (!own.count) return;
      const part = highs[k] > 0 ? Math.max(0, own.mean) / highs[k] : 0;
      const dot = s('circle', { cx: left + k * size + 10, cy: y, r: radius(own.fraction), fill: own.mean ? hex(ramp(part, app.theme)) : zeroColor(app.theme) });
      dot.append(s('title', {}, `${table.genes[k].title}, ${termName(row.term)}: mean ${short(own.mean)}, above zero ${(100 * own.fraction).toFixed(1)} % of ${number(own.count)}`));
      svg.append(dot);
    });
  });
  const rest = table.rows.length - few.length;
  return scroll(svg, dotKey(app.theme),
    note(`Colours go from 0 to each gene's highest mean.${rest > 0 ? ` ${number(rest / table.sets.length)} more groups stand in the table.` : ''}`));
}

// What the size and the colour of a dot stand for.
function dotKey(theme) {
  const svg = s('svg', { width: 322, height: 34, class: 'dots', role: 'img', 'aria-label': 'Dots: 10, 50 and 100 % of cells above zero; colour from 0 to the highest mean' });
  const write = (x, text) => svg.append(s('text', { x, y: 21, 'font-size': 11 }, text));
  [[8, 10], [60, 50], [118, 100]].forEach(([x, share]) => {
    svg.append(s('circle', { cx: x, cy: 17, r: radius(share / 100), fill: 'currentColor' }));
    write(x + 13, `${share} %`);
  });
  write(176, 'mean 0');
  for (let k = 0; k < 12; k++) svg.append(s('rect', { x: 220 + 4.6 * k, y: 12, width: 4.8, height: 10, fill: hex(ramp(k / 11, theme)) }));
  write(279, 'highest');
  return svg;
}

function numbers({ by, genes, sets, rows }) {
  const several = sets.length > 1;
  const heads = [by, ...(several ? ['set'] : []), 'cells', ...genes.flatMap((g) => [g.title, h('th', { scope: 'col', 'aria-label': `${g.title}, share above zero` }, '> 0')])];
  return grid(heads, rows.map((row) => [
    termName(row.term), ...(several ? [h('td', { class: `set-name ${row.set}` }, row.set)] : []), number(row.cells),
    ...row.statistics.flatMap((o) => [h('td', { title: o.count ? String(o.mean) : 'no value' }, short(o.mean)), h('td', { title: `${number(o.count)} values` }, o.count ? `${(100 * o.fraction).toFixed(1)} %` : '')]),
  ]));
}
