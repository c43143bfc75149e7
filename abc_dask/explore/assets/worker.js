// Long work on bytes of all cells, beside the page: it need not wait, and all memory is free in the end.

import { Folder, exactReader } from './data.js';
import { labelLines } from './labels.js';
import { geneStatistics } from './stats.js';

const JOBS = {
  // Statistics of one gene after the other, in the same memory.
  async statistics(folder, { genes, column, sets, flags }, tell) {
    const spare = [];
    for (const gene of genes) {
      const read = exactReader(await folder.whole(`exact/${gene}.bin`, spare));
      tell(geneStatistics(read, column, sets, flags));
    }
  },

  // Labels of the cells whose flags are wanted, as CSV.
  async labels(folder, { tiles, sizes, flags, test }, tell) {
    const parts = ['cell_label\n'], spare = [[], []];
    let first = 0;
    for (const [tile, count] of tiles.entries()) {
      const own = flags.subarray(first, first += count);
      if (!own.some((f) => (f & test[0]) === test[1])) continue;
      parts.push(labelLines(await folder.tile('labels.bin', sizes, tile, spare[0]), own, test, spare[1]));
    }
    tell(new Blob(parts, { type: 'text/csv' }));
  },
};

self.onmessage = async ({ data: { job, base, given } }) => {
  try {
    await JOBS[job](new Folder(base), given, (found) => postMessage({ found }));
    postMessage({ end: true });
  } catch (error) {
    postMessage({ error: error.message, cause: error.cause });
  }
};
