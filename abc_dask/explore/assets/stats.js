// Statistics of sets of cells by groups: those of `abc-dask summarize`.

import { noTerm, testOf } from './model.js';
import { MOST_GENES } from './state.js';

const BLOCK = 65536; // cells

// What the table is of: a column, and genes.
export const tableBy = ({ meta, state }) => {
  const names = meta.terms.map((column) => column.name);
  return names.includes(state.by) ? state.by : state.color?.term ?? names[0];
};

export const tableGenes = ({ genes, geneOf, state }) => (state.genes?.map((id) => geneOf.get(id)).filter(Boolean) ?? genes.slice(0, 10)).slice(0, MOST_GENES);

// A and B where they hold cells, or else what is shown.
export const setsOf = ({ sizes }) => {
  const sets = ['A', 'B'].filter((name) => sizes[name]);
  return sets.length ? sets : ['shown'];
};

// Cells of a set by group, behind the terms the missing ones, and by step of a column of values.
export function stepCounts(steps, { terms, width, codes }, set, flags) {
  const [bit, wanted] = testOf(set), gap = noTerm(width), found = new Uint32Array(256 * (terms.length + 1));
  for (let i = 0; i < steps.length; i++) {
    if ((flags[i] & bit) === wanted) found[256 * (codes[i] === gap ? terms.length : codes[i]) + steps[i]]++;
  }
  return found;
}

// Cells of each set by group: a term, and behind the terms the missing ones.
export function cellCounts({ terms, width, codes }, sets, flags, n) {
  const gap = noTerm(width);
  return sets.map((set) => {
    const [bit, wanted] = testOf(set), found = new Uint32Array(terms.length + 1);
    for (let i = 0; i < n; i++) if ((flags[i] & bit) === wanted) found[codes[i] === gap ? terms.length : codes[i]]++;
    return found;
  });
}

// For each set: values that are there, those above zero, and the mean, by group; of values that
// `read` returns for cells from one to another.
export function geneStatistics(read, column, sets, flags) {
  const size = column.terms.length + 1, gap = noTerm(column.width), { codes } = column, n = flags.length;
  const numbers = () => new Float64Array(size);
  const found = sets.map((set) => ({ test: testOf(set), count: new Uint32Array(size), positive: new Uint32Array(size), sum: numbers(), lost: numbers(), plain: numbers() }));
  for (let start = 0; start < n; start += BLOCK) {
    const stop = Math.min(n, start + BLOCK), values = read(start, stop);
    for (const { test: [bit, wanted], count, positive, sum, lost, plain } of found) {
      for (let i = start; i < stop; i++) {
        const value = values[i - start];
        if ((flags[i] & bit) !== wanted || value !== value) continue;
        const group = codes[i] === gap ? size - 1 : codes[i];
        count[group]++;
        if (value === 0) continue;
        if (value > 0) positive[group]++;
        plain[group] += value;
        // Kahan's sum: exact to the last digits, whatever the order of the cells
        const y = value - lost[group], t = sum[group] + y;
        lost[group] = t - sum[group] - y;
        sum[group] = t;
      }
    }
  }
  // where infinite values are, a sum without correction says infinite or not a number
  const mean = ({ sum, plain, count }) => sum.map((v, g) => (count[g] ? (Number.isFinite(v) ? v : plain[g]) / count[g] : NaN));
  return found.map((own) => ({ count: own.count, positive: own.positive, mean: mean(own) }));
}
