// What panels are made of: choices, ticks, files to save.

import { h } from './dom.js';

export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
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
