// Labels of cells: of one, and of many as CSV.

import { room } from './data.js';
import { hire } from './hire.js';
import { testOf } from './model.js';

const [QUOTE, ...QUOTED] = [34, 34, 44, 10, 13];

// Call with each cell of a tile, and with where its label begins and ends.
export function eachLabel(bytes, count, take) {
  const lengths = new DataView(bytes.buffer, bytes.byteOffset, 4 * count);
  for (let cell = 0, at = 4 * count; cell < count; cell++) {
    const end = at + lengths.getUint32(4 * cell, true);
    take(cell, at, end);
    at = end;
  }
}

export async function labelOf({ folder, meta: { tiles, labels } }, cell) {
  let tile = 0, rank = cell, label;
  while (rank >= tiles[tile]) rank -= tiles[tile++];
  const bytes = await folder.tile('labels.bin', labels, tile);
  eachLabel(bytes, tiles[tile], (k, at, end) => { if (k === rank) label = new TextDecoder().decode(bytes.subarray(at, end)); });
  return label;
}

// Labels of a tile's cells whose flags are wanted, as lines of CSV; bytes all along, since texts
// of millions of cells take hundreds of megabytes.
export function labelLines(bytes, flags, [bit, wanted], spare) {
  const lines = room(bytes.length + bytes.filter((b) => b === QUOTE).length, spare);
  let size = 0;
  eachLabel(bytes, flags.length, (cell, at, end) => {
    if ((flags[cell] & bit) !== wanted) return;
    const label = bytes.subarray(at, end), quoted = QUOTED.some((b) => label.includes(b));
    if (quoted) lines[size++] = QUOTE;
    for (const b of label) {
      if (b === QUOTE) lines[size++] = QUOTE;
      lines[size++] = b;
    }
    if (quoted) lines[size++] = QUOTE;
    lines[size++] = 10;
  });
  return lines.slice(0, size);
}

export async function labelsCsv(app, set) {
  const { tiles, labels } = app.meta, given = { tiles, sizes: labels, flags: app.model.flags, test: testOf(set) };
  let csv;
  await hire(app, 'labels', given, (found) => { csv = found; });
  return csv;
}
