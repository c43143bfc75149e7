// Columns of the folder as they come in: places, terms tile by tile, genes and numbers whole.

import { DataError, codesOf, parted, placesOf } from './data.js';

const MOST_VALUES = 12; // columns of genes and numbers in memory, besides those that are needed

export class Columns {
  async readPlaces(tile) {
    const done = (this.placed ??= new Map());
    if (!done.has(tile)) {
      const first = this.first(tile);
      done.set(tile, this.folder.tile('xy.bin', this.meta.xy, tile).then((bytes) => {
        const places = this.model.places.subarray(2 * first, 2 * (first + this.meta.tiles[tile]));
        placesOf(bytes, places);
        this.drawing.put(0, places, first);
      }, (error) => { done.delete(tile); throw error; }));
    }
    await done.get(tile);
  }

  first(tile) {
    return this.meta.tiles.slice(0, tile).reduce((sum, count) => sum + count, 0);
  }

  termsOf(name) {
    const at = this.meta.terms.findIndex((column) => column.name === name);
    return this.once(`terms/${at}.json`, () => this.folder.json(`terms/${at}.json`));
  }

  // A promise that is kept, unless it fails.
  once(name, make) {
    if (!this.loading.has(name)) {
      this.loading.set(name, make().catch((error) => { this.loading.delete(name); throw error; }));
    }
    return this.loading.get(name);
  }

  // A column of terms with its first tile.
  startColumn(key) {
    return this.once(`start ${key}`, async () => {
      const name = key.slice(2), at = this.meta.terms.findIndex((column) => column.name === name);
      if (at < 0) return null;
      const { width, sizes } = this.meta.terms[at], path = `terms/${at}.bin`;
      const [about, bytes] = await Promise.all([this.termsOf(name), this.folder.tile(path, sizes, 0)]);
      const codes = new (width === 1 ? Uint8Array : Uint16Array)(this.meta.cells);
      codes.set(codesOf(bytes, width));
      return { kind: 'term', key, name, title: name, width, codes, path, sizes, ...about };
    });
  }

  // Columns that colours, filters and selections need.
  needed() {
    const { state } = this, steps = [state, ...state.A, ...state.B];
    return [this.keyOf(state.color), `g:${state.second}`, ...steps.flatMap((step) => Object.keys(step.filters))];
  }

  // A whole column by its key: t: terms, g: a gene, n: numbers. Of values, the last few are kept.
  async column(key) {
    const found = await this.once(key, () => this.readColumn(key));
    for (const columns of [this.columns, this.model.columns]) {
      columns.delete(key);
      columns.set(key, found);
    }
    const values = [...this.columns.values()].filter((column) => column.kind === 'value').map((column) => column.key);
    const needed = new Set([key, ...this.needed()]);
    for (const old of values.slice(0, -MOST_VALUES).filter((k) => !needed.has(k))) {
      for (const known of [this.columns, this.model.columns, this.loading]) known.delete(old);
    }
    return found;
  }

  async readColumn(key) {
    const name = key.slice(2);
    if (key.startsWith('t:')) {
      const column = await this.startColumn(key);
      await Promise.all(column.sizes.slice(1).map(async (_, k) => {
        const bytes = await this.folder.tile(column.path, column.sizes, k + 1);
        column.codes.set(codesOf(bytes, column.width), this.first(k + 1));
      }));
      this.folder.forget(column.path);
      return column;
    }
    const gene = this.geneOf.get(name);
    const path = gene ? `genes/${gene.index}.bin` : `numbers/${this.meta.numbers.findIndex((o) => o.name === name)}.bin`;
    const [about, codes] = parted(await this.folder.whole(path));
    if (codes.length !== this.meta.cells) throw new DataError(`${path} has ${codes.length} cells`);
    return { kind: 'value', key, name: gene?.name ?? name, title: gene?.title ?? name, unit: gene && this.meta.provenance.normalization, about, codes };
  }
}
