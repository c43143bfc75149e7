// The search field: a combobox over genes, columns and terms.

import { h } from './dom.js';
import { find } from './search.js';
import { MOST_GENES } from './state.js';
import { tableGenes } from './stats.js';

export class Finder {
  constructor(app) {
    this.app = app;
    this.field = document.getElementById('query');
    this.list = document.getElementById('found');
    this.at = -1;
    this.field.addEventListener('input', () => this.show());
    this.field.addEventListener('focus', () => this.show());
    this.field.addEventListener('blur', () => setTimeout(() => this.close(), 150));
    this.field.addEventListener('keydown', (event) => this.key(event));
    this.show();
  }

  async entries() {
    const { app } = this;
    const genes = app.genes.map((gene) => ({ kind: 'gene', text: gene.title, hint: gene.id, names: gene.names, run: (more) => (more ? this.addGene(gene.id) : app.colourBy(gene.key)) }));
    const columns = app.colourings().filter(([key]) => !key.startsWith('g:'))
      .map(([key, name]) => ({ kind: 'column', text: name, hint: '', names: [name.toLowerCase()], run: () => app.colourBy(key) }));
    const terms = [];
    for (const name of app.termNames()) {
      const { terms: own } = await app.termsOf(name);
      for (const term of own) terms.push({ kind: 'term', text: term, hint: name, names: [term.toLowerCase()], run: () => this.onlyTerm(name, term) });
    }
    return [...genes, ...columns, ...terms];
  }

  addGene(id) {
    const ids = tableGenes(this.app).map((gene) => gene.id);
    this.app.set({ genes: [...new Set([...ids, id])].slice(-MOST_GENES), tab: 'table' });
  }

  async onlyTerm(name, term) {
    await this.app.colourBy(`t:${name}`);
    this.app.filter(`t:${name}`, { only: [term] });
  }

  async show() {
    this.known ??= this.entries();
    let entries;
    try {
      entries = await this.known;
    } catch (error) {
      this.known = null;
      this.app.fail(error);
      return;
    }
    const { found, near } = find(entries, this.field.value);
    this.found = found;
    this.at = found.length && this.field.value.trim() && !near ? 0 : -1;
    const rows = found.map((entry, k) => h('li', { role: 'option', id: `found-${k}`, onpointerdown: (e) => { e.preventDefault(); this.run(k, e.shiftKey); } },
      h('span', { class: 'kind' }, entry.kind), h('span', {}, entry.text), h('span', { class: 'faint' }, entry.hint)));
    if (near) rows.unshift(h('li', { class: 'faint', role: 'presentation' }, found.length ? 'Nothing has this name; nearest:' : 'Nothing has this name'));
    if (found.some((entry) => entry.kind === 'gene')) rows.push(h('li', { class: 'faint', role: 'presentation' }, 'With Shift a gene goes into the table.'));
    this.list.replaceChildren(...rows);
    this.list.hidden = !rows.length;
    this.field.setAttribute('aria-expanded', String(rows.length > 0));
    this.mark();
  }

  mark() {
    for (const row of this.list.querySelectorAll('[role=option]')) row.setAttribute('aria-selected', String(row.id === `found-${this.at}`));
    if (this.at >= 0) this.field.setAttribute('aria-activedescendant', `found-${this.at}`);
    else this.field.removeAttribute('aria-activedescendant');
  }

  key(event) {
    const n = this.found?.length ?? 0;
    if (event.key === 'ArrowDown' && n) this.at = (this.at + 1) % n;
    else if (event.key === 'ArrowUp' && n) this.at = (this.at - 1 + n) % n;
    else if (event.key === 'Enter' && n) this.run(Math.max(0, this.at), event.shiftKey);
    else if (event.key === 'Escape') this.close();
    else return;
    event.preventDefault();
    this.mark();
  }

  run(k, more) {
    this.found[k].run(more);
    this.field.value = '';
    this.close();
  }

  close() {
    this.list.hidden = true;
    this.field.setAttribute('aria-expanded', 'false');
    this.field.removeAttribute('aria-activedescendant');
  }
}
