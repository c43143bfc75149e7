// Statistics of sets of cells by groups: those of `abc-dask summarize`.

import { noTerm, testOf } from './model.js';
import { MOST_GENES } from './state.js';

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

// For each set: values that are there, those above zero, and the mean, by group.
export function geneStatistics(values, column, sets, flags, n) {
  const size = column.terms.length + 1, gap = noTerm(column.width), codes = column.codes;
  return sets.map((set) => {
    const [bit, wanted] = testOf(set);
    const count = new Uint32Array(size), positive = new Uint32Array(size);
    const sum = new Float64Array(size), lost = new Float64Array(size);
    for (let i = 0; i < n; i++) {
      if ((flags[i] & bit) !== wanted) continue;
      const value = values[i];
      if (value !== value) continue;
      const group = codes[i] === gap ? size - 1 : codes[i];
      count[group]++;
      if (value > 0) {
        positive[group]++;
      } else if (value === 0) continue;
      // Kahan's sum: exact to the last digits, whatever the order of the cells
      const y = value - lost[group], t = sum[group] + y;
      lost[group] = t - sum[group] - y;
      sum[group] = t;
    }
    const mean = Float64Array.from(sum, (v, g) => {
      if (!count[g]) return NaN;
      return Number.isFinite(v) ? v / count[g] : plainMean(values, codes, g, gap, size, flags, bit, wanted, n);
    });
    return { count, positive, mean };
  });
}

// Where infinite values are, a sum without correction says infinite or not a number.
function plainMean(values, codes, group, gap, size, flags, bit, wanted, n) {
  let sum = 0, count = 0;
  for (let i = 0; i < n; i++) {
    const own = codes[i] === gap ? size - 1 : codes[i];
    if (own !== group || (flags[i] & bit) !== wanted || values[i] !== values[i]) continue;
    sum += values[i];
    count++;
  }
  return sum / count;
}
