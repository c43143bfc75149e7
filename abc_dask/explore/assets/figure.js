// The picture with its legend, as SVG and PNG.

import { MISSING, hex, paper, ramp, zeroColor } from './color.js';
import { h, s } from './dom.js';
import { entriesOf } from './legend.js';
import { counts, keeper } from './model.js';
import { pairKinds } from './pair.js';
import { cut, number, short, source, termName, titleOf } from './text.js';

const STYLE = { name: {}, bar: { fill: 'none' }, drawing: { display: 'none' } };

// What is shown as a PNG with so many pixels a pixel of the page.
function picture(app, stage, ratio) {
  const { canvas, drawing, width, height } = stage, own = stage.ratio;
  const draw = (of) => {
    stage.ratio = of;
    [canvas.width, canvas.height] = [width, height].map((v) => Math.round(v * of));
    drawing.draw({ ...app.look(), camera: stage.camera, size: stage.size, ratio: of });
  };
  draw(ratio);
  const found = canvas.toDataURL('image/png');
  draw(own);
  return found;
}

// The picture with legend and what lies over it, as one SVG.
export function figure(app) {
  const { stage } = app, { width, height } = stage, wide = 230;
  const [ink, a, b] = app.theme === 'dark' ? ['#e8eaed', '#ff6fa5', '#7ab8ff'] : ['#202124', '#c2185b', '#1565c0'];
  const ground = paper(app.theme);
  const svg = s('svg', { xmlns: 'http://www.w3.org/2000/svg', width: width + wide, height, viewBox: `0 0 ${width + wide} ${height}`, 'font-family': 'sans-serif', fill: ink });
  svg.append(s('rect', { width: width + wide, height, fill: ground }));
  svg.append(s('image', { href: picture(app, stage, 2), width, height }));
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
  svg.append(s('text', { x: width + 12, y, 'font-size': 14, 'font-weight': 'bold' }, cut(app.state.second && app.other() ? `${app.current().title} and ${app.other().title}` : titleOf(app.current()), 26)));
  for (const [color, text] of figureRows(app, Math.max(4, Math.floor((height - 90) / 18)))) {
    y += 18;
    if (color) svg.append(s('rect', { x: width + 12, y: y - 10, width: 11, height: 11, fill: color }));
    svg.append(s('text', { x: width + 30, y, 'font-size': 11 }, cut(text, 34)));
  }
  [...app.words().split('; '), ...source(app.meta.provenance).split(', ')].filter(Boolean).reverse().forEach((part, k) => svg.append(s('text', { x: width + 12, y: height - 12 - 13 * k, 'font-size': 10 }, cut(part, 38))));
  return new XMLSerializer().serializeToString(svg);
}

export async function figurePng(app, scale = 2) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(figure(app))}`;
  await image.decode();
  const canvas = h('canvas', { width: image.width * scale, height: image.height * scale });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => { canvas.toBlob(done, 'image/png'); });
}

// Rows of a picture's legend: colours and names of what it shows most.
function figureRows(app, most = 24) {
  const column = app.current(), { state, theme } = app;
  if (column.kind === 'term') {
    const filter = state.filters[column.key];
    const { shown } = counts(column, app.model.out, filter, app.model.n);
    const rows = entriesOf(column, theme).map(([term, code, color]) => [term, color, shown[code]]).filter(([term, , n]) => n && keeper(filter)(term));
    const few = rows.length > most ? [...rows].sort((a, b) => b[2] - a[2]).slice(0, most) : rows;
    const kept = rows.filter((r) => few.includes(r)).map(([name, color, n]) => [color, `${termName(name)} (${number(n)})`]);
    return rows.length > most ? [...kept, [null, `and ${rows.length - most} more`]] : kept;
  }
  if (state.second && app.other()) {
    const without = column.about.missing || app.other().about.missing;
    return pairKinds(column, app.other(), theme).slice(0, without ? 5 : 4);
  }
  const limits = app.limits('limits');
  const rows = [1, 0.75, 0.5, 0.25, 0].map((p) => [hex(ramp(p, theme)), short(limits[0] + p * (limits[1] - limits[0]))]);
  if (column.about.zero) rows.push([zeroColor(theme), 'zero']);
  if (column.about.missing) rows.push([MISSING[theme], `no value (${number(column.about.missing)})`]);
  return rows;
}
