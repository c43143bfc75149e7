// Columns of cells, and which cells filters and selections hold.

import { cellsWithin } from './geometry.js';

export const HIDDEN = 1, IN_A = 2, IN_B = 4;
export const BITS = { A: IN_A, B: IN_B };

export const noTerm = (width) => (width === 1 ? 255 : 65535);

// For each code of a column of terms whether a filter keeps it; the last one stands for missing.
export function keptTerms(filter, terms) {
  const named = new Set(filter.only ?? filter.not);
  const kept = [...terms, null].map((term) => named.has(term) === Boolean(filter.only));
  return Uint8Array.from(kept, Number);
}

// For each of 256 steps of a gene whether a filter keeps it.
export function keptSteps(filter, about) {
  const [from, to, zero, missing] = filter.steps;
  const kept = new Uint8Array(256);
  for (let step = about.zero ? 1 : 0; step < 255; step++) kept[step] = Number(step >= from && step <= to);
  if (about.zero) kept[0] = zero;
  kept[255] = missing;
  return kept;
}

// A table from code to whether it is kept, for any column.
export function keeps(column, filter) {
  if (column.kind === 'value') return keptSteps(filter, column.about);
  const kept = keptTerms(filter, column.terms);
  const table = new Uint8Array(column.width === 1 ? 256 : 65536);
  table.set(kept.subarray(0, -1));
  table[noTerm(column.width)] = kept.at(-1);
  return table;
}

// How many filters leave each cell out.
export function fails(pairs, n) {
  const out = new Uint8Array(n);
  for (const [column, filter] of pairs) {
    const kept = keeps(column, filter), codes = column.codes;
    for (let i = 0; i < n; i++) out[i] += 1 - kept[codes[i]];
  }
  return out;
}

// Cells by code: all of them, and those that no filter on another column leaves out.
export function counts(column, out, own, n) {
  const size = column.kind === 'value' || column.width === 1 ? 256 : 65536;
  const all = new Uint32Array(size), shown = new Uint32Array(size);
  const kept = own ? keeps(column, own) : null;
  const codes = column.codes;
  for (let i = 0; i < n; i++) {
    const code = codes[i];
    all[code]++;
    if (out[i] === (kept ? 1 - kept[code] : 0)) shown[code]++;
  }
  return { all, shown };
}

export class Model {
  constructor(n) {
    this.n = n;
    this.places = new Uint16Array(2 * n);
    this.boxes = null;
    this.flags = new Uint8Array(n);
    this.out = new Uint8Array(n);
    this.columns = new Map();
  }

  filter(filters) {
    const pairs = this.pairs(filters);
    this.out = fails(pairs, this.n);
    const { flags, out } = this;
    let shown = 0;
    for (let i = 0; i < this.n; i++) {
      if (out[i]) flags[i] |= HIDDEN;
      else {
        flags[i] &= ~HIDDEN;
        shown++;
      }
    }
    this.shown = shown;
  }

  pairs(filters) {
    return Object.entries(filters)
      .filter(([name]) => this.columns.has(name))
      .map(([name, filter]) => [this.columns.get(name), filter]);
  }

  // Make a selection anew from its steps; returns its number of cells.
  select(name, steps) {
    const bit = BITS[name], { flags, n } = this;
    for (let i = 0; i < n; i++) flags[i] &= ~bit;
    for (const step of steps) {
      const out = fails(this.pairs(step.filters), n);
      const take = step.op === '+'
        ? (i) => { if (!out[i]) flags[i] |= bit; }
        : (i) => { if (!out[i]) flags[i] &= ~bit; };
      if (step.shape) cellsWithin(step.shape, this.places, this.boxes, n, take);
      else for (let i = 0; i < n; i++) take(i);
    }
    let count = 0;
    for (let i = 0; i < n; i++) if (flags[i] & bit) count++;
    return count;
  }

  // The cells of a set: 'A', 'B', or what is shown.
  *cellsOf(name) {
    const [bit, wanted] = name in BITS ? [BITS[name], BITS[name]] : [HIDDEN, 0];
    for (let i = 0; i < this.n; i++) if ((this.flags[i] & bit) === wanted) yield i;
  }

  // Ranks within each tile of the cells of a set: [[tile, ranks], ...].
  byTile(name, tiles) {
    const [bit, wanted] = name in BITS ? [BITS[name], BITS[name]] : [HIDDEN, 0];
    const found = [];
    let start = 0;
    tiles.forEach((count, tile) => {
      const ranks = [];
      for (let i = 0; i < count; i++) if ((this.flags[start + i] & bit) === wanted) ranks.push(i);
      if (ranks.length) found.push([tile, ranks]);
      start += count;
    });
    return found;
  }
}
