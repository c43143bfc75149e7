// Text for eyes and tables: numbers, names, CSV.

const GROUPS = new Intl.NumberFormat('en-US');
export const number = (n) => GROUPS.format(n);
export const plural = (n, noun) => `${number(n)} ${noun}${n === 1 ? '' : 's'}`;

// Which data these are, in short.
export const source = ({ metadata, release, synthetic }) => [synthetic && 'synthetic data', metadata, release && `release ${release}`].filter(Boolean).join(', ');

export const termName = (term) => (term === '' ? '(empty)' : term ?? '(missing)');

export const titleOf = ({ title, unit }) => (unit ? `${title} (${unit})` : title);

export function short(value) {
  if (value !== value) return '';
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

const field = (value) => {
  const text = value !== value ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
export const csv = (rows) => rows.map((row) => row.map(field).join(',') + '\n').join('');

export const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
