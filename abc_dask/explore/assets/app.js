// The page: what is loaded, what is shown, and how one follows the other.

import { pairPalette, paper, rgb, termPalette, usualLimits, valuePalette } from './color.js';
import { Columns } from './columns.js';
import { AWAY, DataError, Folder } from './data.js';
import { button } from './dom.js';
import { Drawing } from './draw.js';
import { boxesOf } from './geometry.js';
import { Model, counted } from './model.js';
import { Stage } from './stage.js';
import { read, write } from './state.js';
import { number, plural, source } from './text.js';

const $ = (id) => document.getElementById(id);
// Panels by the modules that make them, which are loaded when they are opened.
const TABS = { colour: 'legend', select: 'select', table: 'table', save: 'saving' };
const shade = (theme) => rgb(theme === 'dark' ? '#26292d' : '#efefef');

// Codes of two columns as one, of 16 bits.
const pairCodes = (one, two) => {
  const both = new Uint16Array(one);
  for (let i = 0; i < both.length; i++) both[i] |= two[i] << 8;
  return both;
};

export class App extends Columns {
  constructor() {
    super();
    Object.assign(this, { columns: new Map(), loading: new Map(), panels: {}, sizes: {}, active: 'A', mode: '=', loaded: 0, complete: false, genes: [], marks: {} });
    this.folder = new Folder(new URL('.', location.href));
    this.state = read(location.hash);
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.dark.addEventListener('change', () => this.retheme());
  }

  get theme() {
    return this.state.theme ?? (this.dark.matches ? 'dark' : 'light');
  }

  // Start, or go on after what failed.
  async start() {
    this.meta ??= await this.folder.json('meta.json');
    const { meta, state } = this;
    if (state.id && state.id !== meta.identity) {
      Object.assign(state, { A: [], B: [], camera: null });
      this.note = 'This link was made for other cells: its selections and its view are left out.';
    }
    state.id = meta.identity;
    this.model ??= new Model(meta.cells);
    this.drawing ??= new Drawing($('cells'), meta.cells);
    this.drawing.palette(termPalette([], this.theme));
    this.stage ??= new Stage(this, this.drawing);
    document.title = `${plural(meta.cells, 'cell')} · abc_dask`;
    $('title').textContent = meta.from.split('/').at(-1);
    $('source').textContent = source(meta.provenance);
    state.color ??= meta.terms.length ? { term: meta.terms[0].name } : null;
    this.retheme();
    await this.readFirst();
    await this.readGenes();
    await this.readRest();
  }

  async readFirst() {
    const key = this.keyOf(this.state.color);
    const [, column] = await Promise.all([this.readPlaces(0), key?.startsWith('t:') ? this.startColumn(key) : null]);
    if (column) {
      this.show(column, 0);
      this.loaded = this.meta.tiles[0];
    }
    this.repaint();
    this.marks.first = performance.now();
  }

  async readGenes() {
    const rows = await this.folder.json('genes.json');
    const times = new Map();
    for (const [, , symbol] of rows) times.set(symbol, (times.get(symbol) ?? 0) + 1);
    this.genes = rows.map(([name, id, symbol, long], index) => ({
      index, name, id, key: `g:${id}`, long,
      title: times.get(symbol) > 1 ? `${symbol} (${id})` : symbol || id,
      names: [...new Set([symbol, name, id].map((n) => n.toLowerCase()))],
    }));
    this.geneOf = new Map(this.genes.map((gene) => [gene.id, gene]));
    const { state } = this;
    if (!this.isKey(this.keyOf(state.color))) state.color = this.meta.terms.length ? { term: this.meta.terms[0].name } : this.genes.length ? { gene: this.genes[0].id } : null;
    if (state.second && !this.geneOf.has(state.second)) state.second = null;
    state.filters = Object.fromEntries(Object.entries(state.filters).filter(([k]) => this.isKey(k)));
  }

  isKey(key) {
    const name = key?.slice(2), lists = { 't:': this.meta.terms, 'n:': this.meta.numbers };
    return key?.startsWith('g:') ? this.geneOf.has(name) : Boolean(lists[key?.slice(0, 2)]?.some((o) => o.name === name));
  }

  async readRest() {
    const { meta, state, model } = this;
    await Promise.all([
      ...meta.tiles.map((_, tile) => this.readPlaces(tile)),
      ...this.needed().filter((key) => this.isKey(key)).map((key) => this.column(key)),
    ]);
    this.folder.forget('xy.bin');
    model.boxes = boxesOf(model.places, meta.cells);
    this.complete = true;
    this.loaded = meta.cells;
    this.refilter();
    for (const set of ['A', 'B']) this.sizes[set] = model.select(set, state[set]);
    this.drawing.put(2, model.flags);
    this.recolour();
    this.marks.all = performance.now();
  }

  keyOf(color) {
    if (!color) return null;
    const [[kind, name]] = Object.entries(color);
    return `${kind[0]}:${name}`;
  }

  nameOfKey(key) {
    return key.startsWith('g:') ? this.geneOf.get(key.slice(2)).title : key.slice(2);
  }

  colourings() {
    const own = this.geneOf?.get(this.state.color?.gene);
    const genes = this.genes.filter((gene, k) => k < 500 || gene === own);
    return [...this.meta.terms.map((c) => [`t:${c.name}`, c.name]), ...genes.map((g) => [g.key, g.title]), ...this.meta.numbers.map((c) => [`n:${c.name}`, c.name])];
  }

  termNames() { return this.meta.terms.map((column) => column.name); }
  current() { return this.columns.get(this.keyOf(this.state.color)); }
  other() { return this.columns.get(`g:${this.state.second}`); }

  limits(which) {
    const column = which === 'limits' ? this.current() : this.other();
    if (this.state[which]) return this.state[which];
    column.steps ??= counted(column.codes, this.model.flags, 'all');
    return usualLimits(column.about, column.steps);
  }

  // Bring colours of cells to the graphics card.
  recolour() {
    const column = this.current(), other = this.state.second ? this.other() : null;
    const began = performance.now();
    if (column && this.complete) {
      this.drawing.palette(this.paletteOf(column, other));
      this.drawing.put(1, other ? pairCodes(column.codes, other.codes) : column.codes);
    }
    this.marks.recolour = performance.now() - began;
    this.repaint();
  }

  paletteOf(column, other) {
    if (column.kind === 'term') return termPalette(column.colors, this.theme);
    if (other) return pairPalette(column.about, other.about, [this.limits('limits'), this.limits('limits2')], this.theme);
    return valuePalette(column.about, this.limits('limits'), this.theme);
  }

  show(column, tile) {
    this.drawing.palette(termPalette(column.colors, this.theme));
    this.drawing.put(1, column.codes.subarray(0, this.meta.tiles[tile]));
  }

  look() {
    const { state, theme } = this;
    return { lit: this.lit ?? -1, count: this.loaded, paper: rgb(paper(theme)), shade: shade(theme), context: state.context, fade: state.fade && (state.A.length > 0 || state.B.length > 0) };
  }

  repaint() {
    this.stage.redraw();
    this.panel();
  }

  retheme() {
    document.documentElement.dataset.theme = this.theme;
    $('theme').textContent = this.theme === 'dark' ? 'Light' : 'Dark';
    if (this.complete) this.recolour();
  }

  refilter() {
    this.model.filter(this.state.filters);
    this.drawing.put(2, this.model.flags);
  }

  // Show a problem and offer another try; nothing else stops.
  fail(error, again = () => this.start()) {
    const box = $('problem');
    box.hidden = false;
    const advice = error?.cause === AWAY
      ? '. If the server has stopped, start it again; if its address is a new one, add the part of this one from # on to it.'
      : error instanceof DataError ? '. The folder of the page may not be whole: copy it again, or make it anew.' : '';
    box.firstElementChild.textContent = `${error?.message ?? error}${advice}`;
    if (!this.complete) this.say('Not all cells could be read.');
    box.lastElementChild.replaceWith(button('Try again', () => { box.hidden = true; this.attempt(again); }));
  }

  async attempt(work) {
    try {
      return await work();
    } catch (error) {
      return this.fail(error, work);
    }
  }

  colourBy(key) {
    return this.attempt(async () => {
      this.say(`Reading ${this.nameOfKey(key)}`);
      await this.column(key);
      const name = key.slice(2), kind = { t: 'term', g: 'gene', n: 'number' }[key[0]];
      Object.assign(this.state, { color: { [kind]: name }, limits: null });
      if (kind !== 'gene' || name === this.state.second) Object.assign(this.state, { second: null, limits2: null });
      if (this.state.tab !== 'colour' && kind === 'term') this.state.by = name;
      this.remember();
      this.say();
      this.recolour();
    });
  }

  second(id) {
    return this.attempt(async () => {
      if (id) await this.column(`g:${id}`);
      Object.assign(this.state, { second: id, limits2: null });
      this.remember();
      this.recolour();
    });
  }

  // Without a key all filters go.
  filter(key, filter) {
    const filters = key ? { ...this.state.filters } : {};
    if (filter) filters[key] = filter;
    else delete filters[key];
    this.state.filters = filters;
    this.remember();
    this.refilter();
    this.stage.redraw();
    this.panel();
  }

  set(changed) {
    Object.assign(this.state, changed);
    this.remember();
    if ('limits' in changed || 'limits2' in changed) this.recolour();
    else if (['by', 'genes', 'tab', 'violin'].some((name) => name in changed)) this.panel();
    else this.stage.redraw();
  }

  // Cells of a term that is pointed at are larger and above all, where a picture is quick.
  highlight(code) {
    if (code === (this.lit ?? -1) || (code >= 0 && this.stage.cost > 100)) return;
    this.lit = code;
    this.stage.redraw();
  }

  // What is found behind the panel of selections has changed.
  told() {
    if (this.state.tab === 'select') this.panel();
  }

  enclose(shape, mode) {
    if (!this.complete) return;
    const step = { op: mode === '-' ? '-' : '+', shape, filters: structuredClone(this.state.filters) };
    this.select(this.active, mode === '=' ? [step] : [...this.state[this.active], step]);
  }

  select(set, steps) {
    this.state[set] = steps;
    const began = performance.now();
    this.sizes[set] = this.model.select(set, steps);
    this.marks.select = performance.now() - began;
    this.drawing.put(2, this.model.flags);
    this.remember();
    if (this.state.tab === 'colour') this.state.tab = 'select';
    this.repaint();
  }

  words() {
    const { meta, model } = this, parts = [];
    if (!this.complete) return this.loaded ? `${number(this.loaded)} of ${plural(meta.cells, 'cell')} so far` : `Reading ${plural(meta.cells, 'cell')}`;
    parts.push(model.shown === meta.cells ? plural(meta.cells, 'cell') : `${number(model.shown)} of ${plural(meta.cells, 'cell')} shown`);
    if (meta.nowhere) parts.push(`${number(meta.nowhere)} without a place, not drawn`);
    for (const set of ['A', 'B']) if (this.sizes[set]) parts.push(`${set}: ${number(this.sizes[set])}`);
    return parts.join('; ');
  }

  say(text) {
    $('counts').textContent = text ?? [this.words(), this.note].filter(Boolean).join('. ');
  }

  panel() {
    this.say();
    this.lit = -1;
    const { tab } = this.state, name = Object.hasOwn(TABS, tab) ? tab : 'colour';
    for (const key of Object.keys(TABS)) {
      $(`tab-${key}`).setAttribute('aria-selected', String(key === name));
      $(`tab-${key}`).tabIndex = key === name ? 0 : -1;
    }
    const panel = $('panel'), began = panel.getAttribute('aria-labelledby') !== `tab-${name}`;
    panel.setAttribute('aria-labelledby', `tab-${name}`);
    $('unfilter').hidden = !Object.keys(this.state.filters).length;
    if (this.complete && this.panels[name]) this.fill(panel, this.panels[name](this).filter(Boolean));
    else if (this.complete) this.attempt(async () => { this.panels[name] = (await import(`./${TABS[name]}.js`)).panel; this.panel(); });
    // another panel begins at its top, on a phone below the picture and the tabs
    if (began) panel.scrollTop = 0;
    if (began && panel.getBoundingClientRect().top < $('tabs').getBoundingClientRect().bottom - 1) panel.scrollIntoView();
    $('cells').setAttribute('aria-label', `${this.words()}, coloured by ${this.current()?.title ?? 'nothing yet'}`);
  }

  // What was focused is again: that of the same name, or else in the same order.
  fill(box, parts) {
    const all = () => [...box.querySelectorAll('button, input, select, summary, [tabindex="0"]')];
    const nameOf = (e) => e?.getAttribute('aria-label') ?? e?.textContent;
    const before = all(), at = before.indexOf(document.activeElement), name = nameOf(before[at]);
    box.replaceChildren(...parts);
    if (at < 0) return;
    const now = all();
    const own = nameOf(now[at]) === name ? now[at] : now.find((e) => nameOf(e) === name);
    (own ?? now[at] ?? box).focus({ preventScroll: true });
  }

  remember() {
    clearTimeout(this.writing);
    this.writing = setTimeout(() => this.write(), 200);
  }

  write() {
    const hash = write(this.state);
    if (hash !== location.hash.replace(/^#/, '')) history.replaceState(null, '', `${location.pathname}${location.search}${hash ? `#${hash}` : ''}`);
  }
}

function wire(app) {
  $('unserved').remove();
  $('theme').addEventListener('click', () => { app.state.theme = app.theme === 'dark' ? 'light' : 'dark'; app.remember(); app.retheme(); });
  for (const name of ['move', 'lasso']) $(name).addEventListener('click', () => app.stage?.use(name));
  $('rectangle').addEventListener('click', () => app.stage?.toggleBox());
  $('closer').addEventListener('click', () => app.stage?.zoom(1.5));
  $('farther').addEventListener('click', () => app.stage?.zoom(1 / 1.5));
  $('home').addEventListener('click', () => app.stage?.home());
  $('unfilter').addEventListener('click', () => app.filter());
  const tabs = Object.keys(TABS);
  tabs.forEach((name, k) => {
    $(`tab-${name}`).addEventListener('click', () => app.set({ tab: name }));
    $(`tab-${name}`).addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(k + step + tabs.length) % tabs.length];
      app.set({ tab: next });
      $(`tab-${next}`).focus();
    });
  });
  window.addEventListener('hashchange', () => location.reload());
  for (const kind of ['focus', 'input']) {
    $('query').addEventListener(kind, () => app.complete && !app.finder && app.attempt(async () => {
      const { Finder } = await import('./finder.js');
      app.finder ??= new Finder(app);
    }));
  }
}

export const app = new App();
wire(app);
app.attempt(() => app.start());
