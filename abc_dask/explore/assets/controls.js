// What panels are made of: sections, rows, notes, choices, ticks, files to save.

import { button, h, s } from './dom.js';
import { cut, termName } from './text.js';

export const note = (...words) => h('p', { class: 'faint' }, ...words);
export const row = (...parts) => h('div', { class: 'row' }, ...parts);
export const section = (title, ...parts) => h('fieldset', {}, h('legend', {}, title), ...parts);
export const scroll = (...parts) => h('div', { class: 'scroll', tabindex: 0 }, ...parts);
export const csvButton = (app, label, name, make, more) => button(label, () => app.attempt(async () => save(name, await make(), 'text/csv')), more);

// A table that scrolls by itself: columns' names, and rows whose first cell names them; a cell is a
// text, a node, or a td with more to it.
export function grid(heads, rows, caption) {
  const of = (name, more) => (cell) => (cell instanceof HTMLTableCellElement ? cell : h(name, more, cell));
  return scroll(h('table', { class: 'numbers' }, caption && h('caption', {}, caption),
    h('thead', {}, h('tr', {}, ...heads.map(of('th', { scope: 'col' })))),
    h('tbody', {}, ...rows.map(([first, ...rest]) => h('tr', {}, h('th', { scope: 'row' }, first), ...rest.map(of('td')))))));
}

export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// The name of a row of dots or violins, before `left`; of several sets a term's name stands once.
export function rowName(svg, { term, set }, number, sets, left, y) {
  const several = sets.length > 1;
  const write = (text, x, more) => svg.append(s('text', { x, y: y + 4, 'text-anchor': 'end', 'font-size': 11, ...more }, text));
  if (number % sets.length === 0) write(cut(termName(term), several ? 18 : 21), left - (several ? 22 : 8));
  if (several) write(set, left - 8, { class: `set-name ${set}` });
}

export function choice(label, options, value, change) {
  const select = h('select', { onchange: () => change(select.value), 'aria-label': label });
  for (const [key, text] of options) select.append(h('option', { value: key }, text));
  select.value = value ?? '';
  return h('label', { class: 'line' }, h('span', {}, label), select);
}

export function tick(label, checked, change) {
  const box = h('input', { type: 'checkbox', checked, onchange: () => change(box.checked) });
  return h('label', { class: 'tick' }, box, h('span', {}, label));
}
