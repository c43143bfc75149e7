// Names of genes, columns and terms: exact first, then beginnings, parts, and the nearest.

// Changes between two words, swaps of neighbours among them; more than `most` is Infinity.
export function distance(a, b, most) {
  if (Math.abs(a.length - b.length) > most) return Infinity;
  let before = [], row = Array.from({ length: b.length + 1 }, (_, k) => k);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, before[j - 2] + 1);
      }
      next.push(cost);
      if (cost < least) least = cost;
    }
    if (least > most) return Infinity;
    [before, row] = [row, next];
  }
  return row[b.length] > most ? Infinity : row[b.length];
}

// Entries have `names`, in small letters; returns them from best to worst, and whether they only
// are the nearest ones.
export function find(entries, text, most = 12) {
  const word = text.trim().toLowerCase();
  if (!word) return { found: entries.slice(0, most), near: false };
  const ranked = [];
  for (const entry of entries) {
    let rank = 9;
    for (const name of entry.names) {
      if (name === word) rank = 0;
      else if (name.startsWith(word)) rank = Math.min(rank, 1);
      else if (name.includes(word)) rank = Math.min(rank, 2);
    }
    if (rank < 9) ranked.push([rank, entry]);
  }
  if (ranked.length) {
    ranked.sort((a, b) => a[0] - b[0]);
    return { found: ranked.slice(0, most).map((r) => r[1]), near: false };
  }
  const limit = Math.max(1, Math.floor(word.length / 3));
  for (const entry of entries) {
    const far = Math.min(...entry.names.map((name) => distance(name, word, limit)));
    if (far <= limit) ranked.push([far, entry]);
  }
  ranked.sort((a, b) => a[0] - b[0]);
  return { found: ranked.slice(0, most).map((r) => r[1]), near: true };
}
