// What is told of the cell under the hand.

import { stepEdge } from './color.js';
import { h } from './dom.js';
import { CHUNK, NOWHERE } from './geometry.js';
import { labelOf } from './labels.js';
import { testOf } from './model.js';
import { short, termName } from './text.js';

// The nearest cell to a place, within radii in steps; -1 where there is none.
export function nearestCell(x, y, rx, ry, places, boxes, n, wanted) {
  let best = -1, least = 1;
  for (let b = 0, start = 0; start < n; b += 4, start += CHUNK) {
    if (boxes[b] > x + rx || boxes[b + 2] < x - rx) continue;
    if (boxes[b + 1] > y + ry || boxes[b + 3] < y - ry) continue;
    const stop = Math.min(n, start + CHUNK);
    for (let i = start; i < stop; i++) {
      if (places[2 * i] === NOWHERE) continue;
      const dx = (places[2 * i] - x) / rx, dy = (places[2 * i + 1] - y) / ry;
      const far = dx * dx + dy * dy;
      if (far < least && wanted(i)) [best, least] = [i, far];
    }
  }
  return best;
}

function told({ columns, model }, cell) {
  const lines = [];
  for (const column of columns.values()) {
    const code = column.codes[cell];
    if (column.kind === 'term') lines.push(`${column.name}: ${termName(column.terms[code])}`);
    else {
      const [low, high] = [code, code + 1].map((step) => short(stepEdge(column.about, step)));
      lines.push(`${column.title}: ${code === 255 ? 'no value' : code === 0 && column.about.zero ? '0' : `${low} to ${high}`}`);
    }
  }
  const sets = ['A', 'B'].filter((set) => model.flags[cell] & testOf(set)[0]);
  return sets.length ? [...lines, `in ${sets.join(' and ')}`] : lines;
}

export function point({ app, camera, tip, width, height, size }, [px, py], clicked) {
  const { model } = app, reach = Math.max(6, size);
  const [x, y] = camera.toSteps(px, py, width, height);
  const [right, below] = camera.toSteps(px + reach, py + reach, width, height);
  const cell = nearestCell(x, y, Math.max(1e-9, right - x), Math.max(1e-9, Math.abs(below - y)), model.places, model.boxes, model.n, (i) => !model.out[i]);
  tip.hidden = cell < 0;
  if (cell < 0) return;
  const lines = told(app, cell).map((line) => h('div', {}, line));
  tip.replaceChildren(...lines);
  // by then another cell may be under the hand
  if (clicked) labelOf(app, cell).then((label) => lines[0].isConnected && tip.prepend(h('b', {}, label)), (error) => app.fail(error));
  const left = px + 14 + tip.offsetWidth > width ? px - 14 - tip.offsetWidth : px + 14;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, Math.min(py + 14, height - tip.offsetHeight))}px`;
}
