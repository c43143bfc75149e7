// Columns of cells, and which cells filters and selections hold.

import { cellsWithin } from './geometry.js';

export const HIDDEN = 1, IN_A = 2, IN_B = 4;
// Flags that are looked at, and what they are, for cells of A, of B, all of them, or that are shown.
export const testOf = (set) => ({ A: [IN_A, IN_A], B: [IN_B, IN_B], all: [0, 0] })[set] ?? [HIDDEN, 0];

export const noTerm = (width) => (width === 1 ? 255 : 65535);

// Whether a filter, or none, keeps a term; null is a missing one.
export const keeper = (filter) => {
  const named = new Set(filter?.only ?? filter?.not);
  return (term) => named.has(term) === Boolean(filter?.only);
};

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
  const kept = keeper(filter), table = new Uint8Array(noTerm(column.width) + 1);
  table.set(column.terms.map(kept));
  table[table.length - 1] = kept(null);
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

// Cells of a set by code of 8 bits.
export function counted(codes, flags, set) {
  const [bit, wanted] = testOf(set), found = new Uint32Array(256);
  for (let i = 0; i < codes.length; i++) if ((flags[i] & bit) === wanted) found[codes[i]]++;
  return found;
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
    this.shown = 0;
    for (let i = 0; i < this.n; i++) {
      flags[i] = (flags[i] & ~HIDDEN) | Number(out[i] > 0);
      if (!out[i]) this.shown++;
    }
  }

  pairs(filters) {
    return Object.entries(filters)
      .filter(([name]) => this.columns.has(name))
      .map(([name, filter]) => [this.columns.get(name), filter]);
  }

  // Make a selection anew from its steps; returns its number of cells.
  select(name, steps) {
    const [bit] = testOf(name), { flags, n } = this;
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
}
