// Commands that reproduce what is shown, and conditions as they take them.

import { stepEdge } from './color.js';

export const shell = (text) => (/^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

// A literal that Python reads as the same text.
export function literal(text) {
  const plain = [...text].map((c) => {
    if (c === '\\' || c === "'") return `\\${c}`;
    if (c === '\n') return '\\n';
    if (c === '\r') return '\\r';
    if (c === '\t') return '\\t';
    const code = c.codePointAt(0);
    return code < 32 || (code >= 127 && code < 160) ? `\\x${code.toString(16).padStart(2, '0')}` : c;
  });
  return `'${plain.join('')}'`;
}

export const column = (name) => (/^[A-Za-z_]\w*$/.test(name) ? name : `\`${name}\``);

function termCondition(name, filter) {
  const listed = (filter.only ?? filter.not).filter((term) => term !== null).map(literal);
  const missing = (filter.only ?? filter.not).includes(null);
  const col = column(name), list = `[${listed.join(', ')}]`;
  const parts = [];
  if (filter.only) {
    if (listed.length) parts.push(`${col} in ${list}`);
    if (missing) parts.push(`${col}.isna()`);
    return parts.length ? `(${parts.join(' or ')})` : `(${col}.isna() and ${col}.notna())`;
  }
  if (listed.length) parts.push(`${col} not in ${list}`);
  if (missing) parts.push(`${col}.notna()`);
  return parts.length ? `(${parts.join(' and ')})` : '';
}

function stepCondition(name, filter, about) {
  const [from, to, zero, missing] = filter.steps;
  const col = column(name), first = about.zero ? 1 : 0, last = about.zero ? 254 : 253;
  const bounds = [];
  if (from > first) bounds.push(`${col} >= ${stepEdge(about, from)}`);
  else if (about.zero) bounds.push(`${col} > 0`);
  if (to < last) bounds.push(`${col} < ${stepEdge(about, to + 1)}`);
  if (!bounds.length) bounds.push(`${col}.notna()`);
  const parts = from <= to ? [bounds.join(' and ')] : [];
  if (zero && about.zero) parts.push(`${col} == 0`);
  if (missing) parts.push(`${col}.isna()`);
  return parts.length ? `(${parts.join(' or ')})` : `(${col}.isna() and ${col}.notna())`;
}

// The condition of --where that filters stand for; `named` gives each column's name there.
export function condition(filters, columns, where) {
  const parts = where ? [`(${where})`] : [];
  for (const [key, filter] of Object.entries(filters)) {
    const found = columns.get(key);
    if (!found) continue;
    const text = filter.steps
      ? stepCondition(found.name, filter, found.about)
      : termCondition(found.name, filter);
    if (text) parts.push(text);
  }
  return parts.join(' and ');
}

export function commands({ from, kind, where, by, genes, color, spatial, selections }) {
  const view = shell(from), lines = [];
  const fit = where ? ` --where ${shell(where)}` : '';
  if (by && kind === 'view') lines.push(['Table of what is shown', `abc-dask summarize ${view} --by ${shell(by)} --statistics mean,fraction,count${fit}`]);
  if (color && kind === 'view') lines.push(['Picture of all cells', `abc-dask plot ${spatial ? 'sections' : 'umap'} ${view} --color ${shell(color)} -o cells.png`]);
  if (genes.length) lines.push(['This page, with the filters as a choice of cells', `abc-dask explore ${view} --genes ${shell(genes.join(','))}${fit}`]);
  for (const name of selections) {
    lines.push([`All genes of selection ${name} (save its labels first)`, `abc-dask cells --download-base DIR --cells-from selection-${name}.csv -o selection-${name}.h5ad`]);
  }
  return lines;
}
