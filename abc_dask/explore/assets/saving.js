// The panel of what can be taken away: labels, the picture, commands, the address.

import { commands, condition } from './commands.js';
import { csvButton, note, row, save, section } from './controls.js';
import { button, h } from './dom.js';
import { figure, figurePng } from './figure.js';
import { labelsCsv } from './labels.js';
import { tableBy, tableGenes } from './stats.js';
import { number } from './text.js';

export function panel(app) {
  const { meta, state } = app;
  const where = condition(state.filters, app.columns, meta.where);
  const color = app.current();
  const lines = commands({
    from: meta.from, kind: meta.kind, where, by: app.termNames().length ? tableBy(app) : '', genes: tableGenes(app).map((g) => g.name),
    color: color?.name, spatial: meta.layout.panels.length > 0, selections: ['A', 'B'].filter((set) => app.sizes[set]),
  });
  const copy = (text) => button('Copy', async (event) => {
    await navigator.clipboard.writeText(text).then(() => { event.target.textContent = 'Copied'; }, () => app.say('The browser does not let the page copy; select the text.'));
  });
  return [
    section('Picture', row(
      button('PNG', () => app.attempt(async () => save('cells.png', await figurePng(app)))),
      button('SVG', () => save('cells.svg', figure(app), 'image/svg+xml')))),
    section('Cells that are shown', row(
      csvButton(app, `Labels of ${number(app.model.shown ?? 0)} as CSV`, 'cells-shown.csv', () => labelsCsv(app, 'shown')))),
    section('Link to this view', note('The link holds colours, filters, selections and the place in the picture.'),
      row(button('Copy link', async (e) => { app.write(); await navigator.clipboard.writeText(location.href).then(() => { e.target.textContent = 'Copied'; }, () => {}); }),
        button('Start over', () => { location.hash = ''; location.reload(); }))),
    section('Commands', ...lines.map(([title, line]) => h('div', { class: 'command' }, h('span', {}, title), copy(line), h('pre', { tabindex: 0 }, line)))),
    section('Source', h('dl', {}, ...Object.entries({ [meta.kind]: meta.from, ...meta.provenance, 'made by': `abc_dask ${meta.abc_dask}` })
      .flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))]))),
  ];
}
