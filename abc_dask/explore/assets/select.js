// The panel of the selections A and B: their cells, their labels, their markers.

import { choice, save } from './controls.js';
import { labelsOf } from './data.js';
import { button, h } from './dom.js';
import { markersBox } from './markers.js';
import { csv, plural } from './text.js';

export async function labelsCsv(app, set) {
  const { tiles, labels } = app.meta, parts = [csv([['cell_label']])];
  for (const [tile, ranks] of app.model.byTile(set, tiles)) {
    const bytes = await app.folder.tile('labels.bin', labels, tile);
    parts.push(csv(labelsOf(bytes, tiles[tile], ranks).map((label) => [label])));
  }
  return new Blob(parts, { type: 'text/csv' });
}

export function panel(app) {
  const { state, sizes } = app, parts = [];
  parts.push(h('p', { class: 'faint' }, 'Draw a lasso or a rectangle around cells: Shift adds to the selection, Alt takes away. Only cells that are shown count.'));
  parts.push(choice('A shape', [['=', 'replaces the selection'], ['+', 'adds to it'], ['-', 'takes away from it']], app.mode, (mode) => { app.mode = mode; }));
  for (const set of ['A', 'B']) {
    const active = app.active === set;
    parts.push(h('fieldset', {}, h('legend', { class: `set-name ${set}` }, `Selection ${set}`),
      h('p', {}, plural(sizes[set] ?? 0, 'cell')),
      h('div', { class: 'row' },
        button(active ? 'Drawn next' : 'Draw this one', () => { app.active = set; app.panel(); }, { 'aria-pressed': String(active) }),
        button('All shown', () => app.select(set, [{ op: '+', shape: null, filters: structuredClone(state.filters) }])),
        button('Clear', () => app.select(set, []), { disabled: !state[set].length }),
        button('Labels as CSV', () => app.attempt(async () => save(`selection-${set}.csv`, await labelsCsv(app, set), 'text/csv')), { disabled: !sizes[set] }))));
  }
  parts.push(h('p', {}, 'The table compares both, by any column.'));
  if (app.meta.markers) parts.push(markersBox(app));
  else if (app.meta.kind === 'store') parts.push(h('p', { class: 'faint' }, 'Markers of A against B: abc-dask explore with the store finds them.'));
  return parts;
}
