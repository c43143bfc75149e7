import assert from 'node:assert/strict';
import test from 'node:test';
import { gzipSync } from 'node:zlib';
import { stepEdge, stepValue, usualLimits, valuePalette } from './color.js';
import { Columns } from './columns.js';
import { DataError, Folder, inflate, placesOf } from './data.js';
import { boxesOf, Camera, cellsWithin, NOWHERE, scaleBar, simplified } from './geometry.js';
import { condition, literal, shell } from './commands.js';
import { packed } from './markers.js';
import { counts, Model, testOf } from './model.js';
import { distance, find } from './search.js';
import { labelLines } from './labels.js';
import { fresh, read, write } from './state.js';
import { csv } from './text.js';
import { nearestCell } from './tip.js';

let seed = 1;
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
const whole = (n) => Math.floor(random() * n);

// Even-odd by crossings, point by point: the plain rule that the bands must not change.
function plainly(shape, x, y) {
  let inside = false;
  for (let i = 0, j = shape.length - 2; i < shape.length; j = i, i += 2) {
    const [xi, yi, xj, yj] = [shape[i], shape[i + 1], shape[j], shape[j + 1]];
    if ((yi > y) !== (yj > y) && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

test('a lasso takes the cells that the plain rule takes', () => {
  for (let round = 0; round < 40; round++) {
    const n = 9000, span = round % 2 ? 60 : 65535;
    const places = Uint16Array.from({ length: 2 * n }, () => whole(span));
    for (let k = 0; k < 20; k++) places.fill(NOWHERE, 2 * k, 2 * k + 2);
    const shape = Array.from({ length: 2 * (3 + whole(40)) }, () => whole(span));
    const found = new Set();
    cellsWithin(shape, places, boxesOf(places, n), n, (i) => found.add(i));
    let differ = 0;
    for (let i = 0; i < n; i++) {
      const wanted = places[2 * i] !== NOWHERE && plainly(shape, places[2 * i], places[2 * i + 1]);
      if (wanted !== found.has(i)) differ++;
    }
    // on an edge itself, rounding may fall either way
    assert.ok(differ <= (span === 60 ? 40 : 1), `${differ} of ${n}`);
  }
});

test('the nearest cell is the nearest', () => {
  const n = 5000, places = Uint16Array.from({ length: 2 * n }, () => whole(65535));
  const boxes = boxesOf(places, n);
  for (let k = 0; k < 50; k++) {
    const x = whole(65535), y = whole(65535);
    let best = -1, least = 1;
    for (let i = 1; i < n; i++) {
      const far = ((places[2 * i] - x) / 900) ** 2 + ((places[2 * i + 1] - y) / 700) ** 2;
      if (far < least) [best, least] = [i, far];
    }
    assert.equal(nearestCell(x, y, 900, 700, places, boxes, n, (i) => i > 0), best);
  }
});

test('a camera goes there and back', () => {
  const camera = new Camera({ x: [-3, 17], y: [2, 5] }).fit(800, 600);
  camera.zoom(3, 200, 100, 800, 600);
  const [sx, sy] = camera.toSteps(123, 456, 800, 600);
  const [px, py] = camera.toPixels(sx, sy, 800, 600);
  assert.ok(Math.abs(px - 123) < 1e-6 && Math.abs(py - 456) < 1e-6);
  const before = camera.toData(200, 100, 800, 600);
  camera.zoom(0.5, 200, 100, 800, 600);
  camera.toData(200, 100, 800, 600).forEach((v, k) => assert.ok(Math.abs(v - before[k]) < 1e-9));
});

test('all of a section is in the picture, with its name below the tools', () => {
  const layout = { x: [0, 10], y: [0, 4], panels: [{ y: 2, height: 3 }, { y: -1, height: 3 }] };
  const camera = new Camera(layout).fit(400, 400);
  assert.ok(200 - (5 - camera.y) * camera.scale >= 42 + 14);
  assert.ok(200 - (0 - camera.y) * camera.scale <= 400);
});

test('lines lose the points that say nothing', () => {
  const line = Array.from({ length: 50 }, (_, k) => [k, 2 * k]);
  assert.deepEqual(simplified(line, 0.1), [[0, 0], [49, 98]]);
  const corner = [[0, 0], [5, 0.01], [10, 0], [10, 10]];
  assert.deepEqual(simplified(corner, 0.1), [[0, 0], [10, 0], [10, 10]]);
});

test('a scale bar is round and not too long', () => {
  for (const scale of [0.013, 1, 7.3, 900]) {
    const [units, pixels] = scaleBar(scale, 120);
    assert.ok(pixels <= 120 && pixels > 40);
    assert.match(units.toExponential(), /^[125]e/);
  }
});

test('steps have edges and values', () => {
  const about = { low: 1, high: 3, zero: true };
  assert.equal(stepEdge(about, 1), 1);
  assert.equal(stepEdge(about, 2), Math.fround(1 + 2 / 254));
  assert.equal(stepEdge(about, 255), 3);
  assert.equal(stepValue(about, 0), 0);
  assert.ok(Number.isNaN(stepValue(about, 255)));
  const counted = new Uint32Array(256);
  counted[0] = 1000; counted[10] = 98; counted[200] = 2;
  assert.deepEqual(usualLimits(about, counted), [stepEdge(about, 10), stepEdge(about, 201)]);
  counted[200] = 1; counted[10] = 198;
  assert.deepEqual(usualLimits(about, counted), [stepEdge(about, 10), stepEdge(about, 11)]);
  assert.deepEqual(usualLimits(about, new Uint32Array(256)), [1, 3]);
  const palette = valuePalette(about, [0, 3], 'light');
  assert.equal(palette[0], palette[1]); // zero is grey
  assert.ok(palette[4 * 254 + 3] > palette[4 * 2 + 3] && palette[4 * 2 + 3] > palette[3]);
});

test('filters, counts and selections', () => {
  const model = new Model(6);
  const kind = { kind: 'term', width: 1, terms: ['a', 'b'], codes: Uint8Array.of(0, 0, 1, 1, 255, 255) };
  const gene = { kind: 'value', about: { low: 1, high: 2, zero: true }, codes: Uint8Array.of(0, 9, 0, 9, 255, 9) };
  model.columns.set('t:kind', kind);
  model.columns.set('g:x', gene);
  model.places = Uint16Array.of(1, 1, 2, 2, 3, 3, 4, 4, 5, 5, NOWHERE, NOWHERE);
  model.boxes = boxesOf(model.places, 6);
  const filters = { 't:kind': { not: ['a'] }, 'g:x': { steps: [5, 20, 0, 1] } };
  const cells = (set) => [...model.flags.keys()].filter((i) => { const [bit, on] = testOf(set); return (model.flags[i] & bit) === on; });
  model.filter(filters);
  assert.deepEqual(cells('shown'), [3, 4, 5]);
  const { all, shown } = counts(kind, model.out, filters['t:kind'], 6);
  assert.deepEqual([all[0], all[1], all[255]], [2, 2, 2]);
  assert.deepEqual([shown[0], shown[1], shown[255]], [1, 1, 2]); // as if its own filter were not
  const square = [0, 0, 60, 0, 60, 60, 0, 60];
  assert.equal(model.select('A', [{ op: '+', shape: square, filters: {} }]), 5);
  assert.equal(model.select('B', [{ op: '+', shape: null, filters }, { op: '-', shape: square, filters: {} }]), 1);
  assert.deepEqual(cells('A'), [0, 1, 2, 3, 4]);
  model.filter({ 't:kind': { only: [null] } });
  assert.deepEqual(cells('shown'), [4, 5]);
});

test('a few columns of values are kept, and those that are needed', async () => {
  const app = Object.assign(new Columns(), { columns: new Map(), loading: new Map(), model: { columns: new Map() } });
  Object.assign(app, { state: { color: 'g:0', second: '1', filters: { 'g:2': {} }, A: [{ filters: { 'n:3': {} } }], B: [] }, keyOf: (color) => color });
  let read = 0;
  app.readColumn = async (key) => ({ key, kind: key.startsWith('t:') ? 'term' : 'value', read: read++ });
  const keys = ['t:kind', 'g:0', 'g:1', 'g:2', 'n:3', ...Array.from({ length: 40 }, (_, k) => `g:${k + 10}`)];
  for (const key of keys) await app.column(key);
  await app.column('g:49');
  assert.equal(read, keys.length);
  const kept = [...app.columns.keys()];
  assert.deepEqual(kept.slice(0, 5), keys.slice(0, 5));
  assert.deepEqual(kept.slice(5), keys.slice(-12));
  assert.deepEqual([...app.model.columns.keys()], kept);
  assert.deepEqual([...app.loading.keys()].sort(), [...kept].sort());
  await app.column('g:10');
  assert.equal(read, keys.length + 1);
});

test('names are found by beginning, part, and nearness', () => {
  const entries = ['tac2', 'tacr1', 'slc17a7', 'ensmusg0000'].map((name) => ({ names: [name] }));
  const names = (text) => find(entries, text).found.map((e) => e.names[0]);
  assert.deepEqual(names('TAC'), ['tac2', 'tacr1']);
  assert.deepEqual(names('17a'), ['slc17a7']);
  assert.deepEqual(find(entries, 'Tca2'), { found: [entries[0]], near: true });
  assert.deepEqual(names('zzzz'), []);
  assert.equal(distance('abcd', 'acbd', 2), 1);
  assert.equal(distance('kitten', 'sitting', 5), 3);
  assert.equal(distance('kitten', 'sitting', 2), Infinity);
});

test('a state is what its address says', () => {
  const state = Object.assign(fresh(), { id: 'x', color: { gene: 'E%1' }, filters: { 't:a b': { only: ['é"#', null] } }, A: [{ op: '+', shape: [1, 2, 3, 4, 5, 6], filters: {} }], size: 2 });
  assert.deepEqual(read(`#${write(state)}`), state);
  assert.equal(write(fresh()), '');
  const odds = ['[]', 'null', '{"filters":{"t:class":{"only":[5]}},"A":[{"op":"*","shape":[1],"filters":{}}]}', '{"__proto__":{"size":4},"constructor":1,"limits":[null,1]}', '{"violin":"t:class"}'];
  for (const odd of [...odds, '%', '"x"', '{"size":"2"}', '{"A":[{"op":"+","shape":[1,2,3,4,5,70000],"filters":{}}]}']) {
    assert.deepEqual(read(encodeURIComponent(odd)), fresh());
  }
});

test('what leaves the page is quoted', () => {
  assert.equal(csv([['a,b', 'q"', 'n\n', NaN, 1.5]]), '"a,b","q""","n\n",,1.5\n');
  assert.equal(shell("it's"), "'it'\\''s'");
  assert.equal(shell('plain-1.csv'), 'plain-1.csv');
  assert.equal(literal("a'\\\n\u0007"), "'a\\'\\\\\\n\\x07'");
  const columns = new Map([['t:k', { name: 'my kind' }], ['g:1', { name: 'Tac2', about: { low: 1, high: 2, zero: true } }]]);
  assert.equal(condition({ 't:k': { only: ['a', null] } }, columns, 'x > 1'), "(x > 1) and (`my kind` in ['a'] or `my kind`.isna())");
  assert.equal(condition({ 'g:1': { steps: [1, 254, 0, 0] } }, columns), '(Tac2 > 0)');
});

test('a host may lack ranges, answer wrongly, or not at all', async () => {
  const file = Uint8Array.from({ length: 100 }, (_, k) => k);
  let asked = 0;
  const answer = (status, body) => ({ ok: status < 300, status, arrayBuffer: async () => body.slice().buffer });
  const without = new Folder('http://h/', async () => (asked++, answer(200, file)));
  assert.deepEqual([...await without.range('f', 10, 3)], [10, 11, 12]);
  assert.deepEqual([...(await Promise.all([without.range('f', 20, 2), without.range('f', 30, 1)]))[0]], [20, 21]);
  assert.equal(asked, 1);
  await assert.rejects(without.range('f', 99, 5), DataError);
  const ranged = new Folder('http://h/', async (_, { headers }) => {
    const [a, b] = headers.Range.slice(6).split('-').map(Number);
    return answer(206, file.slice(a, b + 1));
  });
  assert.deepEqual([...await ranged.range('f', 97, 3)], [97, 98, 99]);
  await assert.rejects(ranged.range('f', 97, 5), DataError);
  let down = true;
  const comes = new Folder('http://h/', async () => { if (down) throw new TypeError('failed'); return answer(200, file); });
  await assert.rejects(comes.range('f', 0, 2), /no answer for f/);
  down = false;
  assert.deepEqual([...await comes.range('f', 0, 2)], [0, 1]);
  await assert.rejects(new Folder('http://h/', async () => answer(404, file)).whole('f'), /404/);
});

test('labels of chosen cells are lines of CSV', () => {
  const labels = Array.from({ length: 40 }, (_, k) => ['aé', '', ...'",\r\n'][whole(6)] + (whole(2) ? `${k},"` : k));
  const texts = labels.map((label) => new TextEncoder().encode(label));
  const lengths = new Uint32Array(texts.map((text) => text.length));
  const tile = Uint8Array.from([...new Uint8Array(lengths.buffer), ...texts.flatMap((text) => [...text])]);
  const flags = Uint8Array.from(labels, () => whole(8));
  const lines = new TextDecoder().decode(labelLines(tile, flags, testOf('B')));
  assert.equal(lines, csv(labels.filter((_, k) => flags[k] & 4).map((label) => [label])));
});

test('bytes become places', () => {
  const places = (...bytes) => {
    const found = new Uint16Array(bytes.length / 2);
    placesOf(Uint8Array.from(bytes), found);
    return [...found];
  };
  assert.deepEqual(places(1, 1, 0, 0, 0, 0, 0, 0), [1, 0, 0, 1]);
  assert.deepEqual(places(255, 255, 255, 255), [NOWHERE, NOWHERE]);
});

test('gzip is taken off, into memory that is there already, and not where it is cut', async () => {
  const spare = [];
  for (const size of [5, 100_000, 0, 70_000]) {
    const content = Uint8Array.from({ length: size }, () => whole(4)), packed = gzipSync(content);
    assert.deepEqual(await inflate(packed), content);
    assert.deepEqual(await inflate(packed, 'f', spare), content);
    await assert.rejects(inflate(packed.subarray(0, -5), 'f'), /f is cut/);
  }
  assert.equal(spare[0].byteLength, 100_000);
  assert.deepEqual([...await inflate(Uint8Array.of(1, 2))], [1, 2]);
});

test('selections are sent as bits, the highest first', () => {
  const flags = Uint8Array.from({ length: 21 }, () => whole(8));
  const bits = packed(flags, 21), size = 3;
  assert.equal(bits.length, 2 * size);
  [2, 4].forEach((flag, k) => {
    const text = [...bits.subarray(k * size, (k + 1) * size)].map((b) => b.toString(2).padStart(8, '0')).join('');
    assert.equal(text, [...flags].map((f) => (f & flag ? '1' : '0')).join('').padEnd(24, '0'));
  });
});
