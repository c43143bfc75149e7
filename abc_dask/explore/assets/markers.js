// Markers of A against B: asked of the process behind the page, which has the store.

import { choice, csvButton, grid, note, row } from './controls.js';
import { AWAY, DataError } from './data.js';
import { button, h } from './dom.js';
import { testOf } from './model.js';
import { number, plural, short } from './text.js';

// A bit for each cell, the highest first: those of A, then those of B.
export function packed(flags, n) {
  const size = Math.ceil(n / 8), bits = new Uint8Array(2 * size);
  ['A', 'B'].forEach((set, k) => {
    const [bit] = testOf(set);
    for (let i = 0; i < n; i++) if (flags[i] & bit) bits[k * size + (i >> 3)] |= 128 >> (i & 7);
  });
  return bits;
}

async function ask(app, path, options = {}) {
  const answer = await fetch(new URL(`markers/${path}`, app.folder.base), { cache: 'no-store', ...options })
    .catch(() => { throw new DataError('no answer about markers', { cause: AWAY }); });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer;
}

// Begin a run, and follow it to its end; another one of this page takes its place.
export async function findMarkers(app, method) {
  const body = packed(app.model.flags, app.model.n);
  const of = ['A', 'B'].map((set) => app.sizes[set] ?? 0);
  const run = await (await ask(app, method, { method: 'POST', body })).json();
  const mine = { ...run, method, of };
  app.run = mine;
  while (app.run === mine && mine.state === 'running') {
    app.told();
    await new Promise((done) => { setTimeout(done, 300); });
    Object.assign(mine, await (await ask(app, `${mine.id}.json`)).json());
  }
  app.told();
}

const cancel = (app) => app.attempt(() => ask(app, 'cancel', { method: 'POST' }));

export function markersBox(app) {
  const { run, sizes } = app, method = run?.method ?? app.method ?? 't';
  const versus = sizes.B ? 'B' : 'all other cells';
  const parts = [
    choice('Test', [['t', 'Welch’s t'], ['wilcoxon', 'Wilcoxon’s rank sum']], method, (chosen) => { app.method = chosen; if (run) run.method = chosen; }),
    row(button(`Find markers of A against ${versus}`, () => app.attempt(() => findMarkers(app, app.method ?? method)), { disabled: !sizes.A || run?.state === 'running' })),
  ];
  if (run?.state === 'running') {
    parts.push(row(h('progress', { max: run.total, value: run.done, 'aria-label': 'Genes tested' }),
      h('span', {}, `${number(run.done)} of ${plural(run.total, 'gene')}`), button('Cancel', () => cancel(app))));
  }
  if (run?.state === 'cancelled') parts.push(h('p', {}, 'Cancelled.'));
  if (run?.state === 'failed') parts.push(h('p', { role: 'alert' }, run.error));
  if (run?.state === 'done') parts.push(...found(app, run));
  return h('fieldset', { class: 'markers' }, h('legend', {}, 'Markers'), ...parts);
}

function found(app, run) {
  const stale = ['A', 'B'].some((set, k) => (app.sizes[set] ?? 0) !== run.of[k]);
  return [
    stale ? note('The selections have changed since.') : null,
    note(`${number(run.cells[0])} against ${plural(run.cells[1], 'cell')}. A cell of both belongs to A.${run.absent ? ` ${plural(run.absent, 'gene')} without a value in some cells, which are in no test of them.` : ''} Note: ${run.warning}.`),
    row(csvButton(app, 'All genes as CSV', 'markers.csv', async () => (await ask(app, `${run.id}.csv`)).blob())),
    h('pre', { tabindex: 0 }, run.command),
    ...[['higher', 'Higher in A'], ['lower', 'Lower in A']].map(([side, title]) => best(app, run[side], title, run.of[1] ? 'in B' : 'in others')),
  ].filter(Boolean);
}

function best(app, rows, title, others) {
  const rank = rows.some((own) => own.auroc !== undefined);
  const share = (part) => `${(100 * part).toFixed(1)} %`;
  return grid(['gene', 'score', 'log2 fold', 'p adjusted', 'in A', others, ...(rank ? ['AUROC'] : [])], rows.map((own) => [
    button(own.symbol || own.id, () => app.colourBy(`g:${own.id}`), { class: 'term', title: `Colour by ${own.id}` }),
    short(own.score), short(own.change), own.p === null ? '' : own.p === 0 ? '< 1e-300' : own.p.toExponential(1), share(own.fraction), share(own.other), ...(rank ? [short(own.auroc)] : []),
  ]), title);
}
