// The panel of the selections A and B: their cells, their labels, their markers.

import { choice, csvButton, note, row, tick } from './controls.js';
import { button, h } from './dom.js';
import { labelsCsv } from './labels.js';
import { markersBox } from './markers.js';
import { plural } from './text.js';

export function panel(app) {
  const { state, sizes } = app, parts = [];
  parts.push(note('Draw around cells with Lasso or Rectangle; only cells that are shown count. With Shift a shape adds to the selection, with Alt it takes away.'));
  parts.push(choice('Draw into', [['A', 'selection A'], ['B', 'selection B']], app.active, (set) => { app.active = set; }));
  parts.push(choice('New shape', [['=', 'replaces the selection'], ['+', 'adds to it'], ['-', 'takes away from it']], app.mode, (mode) => { app.mode = mode; }));
  for (const set of ['A', 'B']) {
    parts.push(h('fieldset', {}, h('legend', { class: `set-name ${set}` }, `Selection ${set}`),
      h('p', {}, plural(sizes[set] ?? 0, 'cell')),
      row(
        button('Take all shown', () => app.select(set, [{ op: '+', shape: null, filters: structuredClone(state.filters) }])),
        button('Clear', () => app.select(set, []), { disabled: !state[set].length }),
        csvButton(app, 'Labels as CSV', `selection-${set}.csv`, () => labelsCsv(app, set), { disabled: !sizes[set] }))));
  }
  parts.push(tick('Fade cells outside A and B', state.fade, (on) => app.set({ fade: on })));
  parts.push(note('The table compares A and B by any column.'));
  if (app.meta.markers) parts.push(markersBox(app));
  else if (app.meta.kind === 'store') parts.push(note('Markers of A against B: abc-dask explore with the store finds them.'));
  return parts;
}
