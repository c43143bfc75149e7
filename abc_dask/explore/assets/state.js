// What is shown, as the part of the address behind '#'.

export const MOST_GENES = 24; // of a table

export const DEFAULTS = Object.freeze({
  id: '', // which cells, so that an address of others is told
  color: null, // {term: name}, {gene: identifier} or {number: name}
  second: null, // identifier of a second gene
  limits: null, // of the first scale, and of the second one
  limits2: null,
  filters: {}, // by column: {only: [...]}, {not: [...]}, or {steps: [from, to, zero, missing]}
  A: [], // steps that make a selection: {op, shape, filters}
  B: [],
  camera: null, // x, y, scale relative to all
  size: 1,
  context: true, // filtered cells stay as a shade
  fade: false,
  theme: null,
  by: null, // groups of the table
  genes: null, // of the table
  violin: null, // what its violins are of: g:identifier or n:column
  tab: 'colour',
});

export const fresh = () => structuredClone(DEFAULTS);

export function write(state) {
  const kept = {};
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (JSON.stringify(state[name]) !== JSON.stringify(value)) kept[name] = state[name];
  }
  return Object.keys(kept).length > (kept.id ? 1 : 0) ? encodeURIComponent(JSON.stringify(kept)) : '';
}

const isText = (v) => typeof v === 'string';
const isList = (v, of) => Array.isArray(v) && v.every(of);
const isPair = (v) => isList(v, Number.isFinite) && v.length === 2;
const isStep = (v) => Number.isInteger(v) && v >= 0 && v <= 65535;
const isTable = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);
const isTerm = (v) => v === null || isText(v);

function isFilter(v) {
  if (!isTable(v)) return false;
  if (v.steps) return isList(v.steps, isStep) && v.steps.length === 4;
  return isList(v.only ?? v.not, isTerm);
}
const isFilters = (v) => isTable(v) && Object.values(v).every(isFilter);
const isSelection = (v) => isList(v, (s) => isTable(s) && '+-'.includes(s.op) && isFilters(s.filters)
  && (s.shape === null || (isList(s.shape, isStep) && s.shape.length >= 6)));

const CHECKS = {
  id: isText,
  color: (v) => isTable(v) && Object.keys(v).length === 1 && isText(v.term ?? v.gene ?? v.number),
  second: isText, limits: isPair, limits2: isPair, filters: isFilters, A: isSelection, B: isSelection,
  camera: (v) => isList(v, Number.isFinite) && v.length === 3 && v[2] > 0,
  size: (v) => Number.isFinite(v) && v >= 0.25 && v <= 8,
  context: (v) => typeof v === 'boolean',
  fade: (v) => typeof v === 'boolean',
  theme: (v) => v === 'light' || v === 'dark',
  by: isText,
  genes: (v) => isList(v, isText),
  violin: (v) => isText(v) && /^[gn]:/.test(v),
  tab: isText,
};

// An address comes from anywhere: what it should not hold is left out.
export function read(hash) {
  const state = fresh();
  let given;
  try {
    given = JSON.parse(decodeURIComponent(hash.replace(/^#/, '')));
  } catch {
    return state;
  }
  if (!isTable(given)) return state;
  for (const [name, check] of Object.entries(CHECKS)) {
    if (Object.hasOwn(given, name) && given[name] !== null && check(given[name])) state[name] = given[name];
  }
  return state;
}
