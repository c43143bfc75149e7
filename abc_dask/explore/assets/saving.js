// What can be taken away: labels, the picture, commands, the address; and the selections.

import { paper } from './color.js';
import { labelsOf } from './data.js';
import { button, h, s, save } from './dom.js';
import { figureRows } from './legend.js';
import { commands, condition, csv, number, plural } from './text.js';

export async function labelsCsv(app, set) {
  const { tiles, labels } = app.meta, parts = [csv([['cell_label']])];
  for (const [tile, ranks] of app.model.byTile(set, tiles)) {
    const bytes = await app.folder.tile('labels.bin', labels, tile);
    parts.push(csv(labelsOf(bytes, tiles[tile], ranks).map((label) => [label])));
  }
  return new Blob(parts, { type: 'text/csv' });
}

const STYLE = { name: {}, bar: { fill: 'none' }, drawing: { display: 'none' } };

// The picture with legend and what lies over it, as one SVG.
export function figure(app) {
  const { stage } = app, { width, height } = stage, wide = 230;
  const [ink, a, b] = app.theme === 'dark' ? ['#e8eaed', '#ff6fa5', '#7ab8ff'] : ['#202124', '#c2185b', '#1565c0'];
  const ground = paper(app.theme);
  const svg = s('svg', { xmlns: 'http://www.w3.org/2000/svg', width: width + wide, height, viewBox: `0 0 ${width + wide} ${height}`, 'font-family': 'sans-serif', fill: ink });
  svg.append(s('rect', { width: width + wide, height, fill: ground }));
  svg.append(s('image', { href: stage.picture(2), width, height }));
  for (const part of stage.parts().found) {
    const copy = part.cloneNode(true), names = (copy.getAttribute('class') ?? '').split(' ');
    const color = names.includes('A') ? a : names.includes('B') ? b : ink;
    if (copy.tagName === 'text') copy.setAttribute('fill', color);
    else copy.setAttribute('stroke', color);
    for (const [key, value] of Object.entries(STYLE[names[0]] ?? {})) copy.setAttribute(key, value);
    copy.removeAttribute('class');
    svg.append(copy);
  }
  let y = 24;
  svg.append(s('text', { x: width + 12, y, 'font-size': 14, 'font-weight': 'bold' }, cut(app.current().title, 26)));
  for (const [color, text] of figureRows(app, Math.max(4, Math.floor((height - 90) / 18)))) {
    y += 18;
    if (color) svg.append(s('rect', { x: width + 12, y: y - 10, width: 11, height: 11, fill: color }));
    svg.append(s('text', { x: width + 30, y, 'font-size': 11 }, cut(text, 34)));
  }
  svg.append(s('text', { x: width + 12, y: height - 12, 'font-size': 10 }, cut(app.words(), 42)));
  return new XMLSerializer().serializeToString(svg);
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

export async function figurePng(app, scale = 2) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(figure(app))}`;
  await image.decode();
  const canvas = h('canvas', { width: image.width * scale, height: image.height * scale });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => { canvas.toBlob(done, 'image/png'); });
}

export function selectPanel(app) {
  const { state, sizes } = app, parts = [];
  parts.push(h('p', { class: 'faint' }, 'Draw a lasso or a rectangle around cells: Shift adds to the selection, Alt takes away. Only cells that are shown count.'));
  for (const set of ['A', 'B']) {
    const active = app.active === set;
    parts.push(h('fieldset', {}, h('legend', { class: `set-name ${set}` }, `Selection ${set}`),
      h('p', {}, plural(sizes[set] ?? 0, 'cell')),
      h('div', { class: 'row' },
        button(active ? 'Drawn next' : 'Draw this one', () => app.activate(set), { 'aria-pressed': String(active) }),
        button('All shown', () => app.select(set, [{ op: '+', shape: null, filters: structuredClone(state.filters) }])),
        button('Clear', () => app.select(set, []), { disabled: !state[set].length }),
        button('Labels as CSV', () => app.attempt(async () => save(`selection-${set}.csv`, await labelsCsv(app, set), 'text/csv')), { disabled: !sizes[set] }))));
  }
  parts.push(h('p', {}, 'The table compares both, by any column.'));
  return parts;
}

export function savePanel(app) {
  const { meta, state } = app;
  const where = condition(state.filters, app.columns, meta.where);
  const color = app.current();
  const lines = commands({
    from: meta.from, kind: meta.kind, where, by: app.termNames().length ? app.tableBy() : '', genes: app.tableGenes().map((g) => g.name),
    color: color?.name, spatial: meta.layout.panels.length > 0, selections: ['A', 'B'].filter((set) => app.sizes[set]),
  });
  const copy = (text) => button('Copy', async (event) => {
    await navigator.clipboard.writeText(text).then(() => { event.target.textContent = 'Copied'; }, () => app.say('The browser does not let the page copy; select the text.'));
  });
  return [
    h('fieldset', {}, h('legend', {}, 'Picture'), h('div', { class: 'row' },
      button('PNG', () => app.attempt(async () => save('cells.png', await figurePng(app)))),
      button('SVG', () => save('cells.svg', figure(app), 'image/svg+xml')))),
    h('fieldset', {}, h('legend', {}, 'Cells that are shown'), h('div', { class: 'row' },
      button(`Labels of ${number(app.model.shown ?? 0)} as CSV`, () => app.attempt(async () => save('cells-shown.csv', await labelsCsv(app, 'shown'), 'text/csv'))))),
    h('fieldset', {}, h('legend', {}, 'This page as it is'), h('p', { class: 'faint' }, 'The address holds colours, filters, selections and place.'),
      h('div', { class: 'row' }, button('Copy address', async (e) => { app.write(); await navigator.clipboard.writeText(location.href).then(() => { e.target.textContent = 'Copied'; }, () => {}); }),
        button('Start anew', () => { location.hash = ''; location.reload(); }))),
    h('fieldset', {}, h('legend', {}, 'Commands'), ...lines.map(([title, line]) => h('div', { class: 'command' }, h('span', {}, title), copy(line), h('pre', { tabindex: 0 }, line)))),
    h('fieldset', {}, h('legend', {}, 'Where it is from'), h('dl', {}, ...Object.entries({ [meta.kind]: meta.from, ...meta.provenance, 'made by': `abc_dask ${meta.abc_dask}` })
      .flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))]))),
  ];
}
