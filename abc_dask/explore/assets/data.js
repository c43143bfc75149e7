// Files of the folder: ranges, tiles, and what their bytes mean. README.md has the format.

// A file that did not come, or is not what it should be; of cause AWAY where nobody answered.
export class DataError extends Error {}
export const AWAY = 'away';

const PIECE = 65536;

// So many bytes; those of `spare`, where one is given, once it has as many.
export function room(size, spare = []) {
  if (!(spare[0]?.byteLength >= size)) spare[0] = new ArrayBuffer(size);
  return new Uint8Array(spare[0], 0, size);
}

export async function inflate(bytes, path, spare) {
  // a host may have taken gzip off already; files made on demand never had it
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  // gzip ends with the size of its content, of which deflate saves 1031 of 1032 bytes at most
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4, true);
  const found = size < 1032 * bytes.length && room(size, spare);
  const { readable, writable } = new DecompressionStream('gzip');
  const writer = writable.getWriter(), reader = readable.getReader();
  let at = 0;
  const write = async () => {
    for (let k = 0; k < bytes.length; k += PIECE) await writer.write(bytes.subarray(k, k + PIECE));
    await writer.close();
  };
  const read = async () => {
    for (let part; !(part = await reader.read()).done; at += part.value.length) found.set(part.value, at);
  };
  try {
    await Promise.all([write(), read()]);
  } catch { at = -1; }
  if (at !== size) throw new DataError(`${path} is cut or broken`);
  return found;
}

// A head of JSON behind its length, then the content.
export function parted(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return [head, bytes.subarray(4 + length)];
}

// Exact values of cells from one to another, out of planes of bytes of the same weight.
export function exactReader(bytes) {
  const [{ planes, dtype }, body] = parted(bytes), n = body.length / planes, spare = [];
  return (start, stop) => {
    const joined = room(planes * (stop - start), spare);
    for (let p = 0; p < planes; p++) {
      for (let i = start, at = p; i < stop; i++, at += planes) joined[at] = body[p * n + i];
    }
    return new (dtype === '<f8' ? Float64Array : Float32Array)(joined.buffer, 0, stop - start);
  };
}

// Every second bit of a number, together.
function halved(v) {
  v &= 0x55555555;
  v = (v | (v >>> 1)) & 0x33333333;
  v = (v | (v >>> 2)) & 0x0f0f0f0f;
  v = (v | (v >>> 4)) & 0x00ff00ff;
  return (v | (v >>> 8)) & 0xffff;
}

// Places: steps along the Z curve, as four planes of bytes.
export function placesOf(bytes, places) {
  const n = bytes.length / 4;
  for (let i = 0, at = 0; i < n; i++) {
    at = (at + (bytes[i] | (bytes[n + i] << 8) | (bytes[2 * n + i] << 16) | (bytes[3 * n + i] << 24))) | 0;
    places[2 * i] = halved(at);
    places[2 * i + 1] = halved(at >>> 1);
  }
}

export function codesOf(bytes, width) {
  return width === 1 ? bytes : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
}

export class Folder {
  constructor(base, get = (...args) => fetch(...args)) {
    this.base = base;
    this.get = get;
    this.first = new Map(); // what the first answer about a file was: its whole, or null
  }

  async ask(path, headers = {}) {
    let answer;
    try {
      answer = await this.get(new URL(path, this.base), { headers, cache: 'no-cache' });
    } catch {
      throw new DataError(`no answer for ${path}`, { cause: AWAY });
    }
    if (!answer.ok) throw new DataError(`${path}: the server answers ${answer.status}`);
    try {
      return [answer.status, new Uint8Array(await answer.arrayBuffer())];
    } catch {
      throw new DataError(`${path} broke off`, { cause: AWAY });
    }
  }

  async whole(path, spare) {
    return inflate((await this.ask(path))[1], path, spare);
  }

  async json(path) {
    const [, bytes] = await this.ask(path);
    try {
      return JSON.parse(new TextDecoder().decode(bytes));
    } catch {
      throw new DataError(`${path} is not JSON`);
    }
  }

  // Bytes of a file; a host that answers with the whole file is asked once.
  async range(path, start, size) {
    const known = this.first.get(path);
    let whole = known ? await known : null;
    if (!whole) {
      const asked = this.part(path, start, size);
      if (!known) this.first.set(path, asked.then(([status, bytes]) => (status === 206 ? null : bytes), () => { this.first.delete(path); return null; }));
      const [status, bytes] = await asked;
      if (status === 206) return bytes;
      whole = bytes;
    }
    if (whole.length < start + size) throw new DataError(`${path} is too short`);
    return whole.subarray(start, start + size);
  }

  async part(path, start, size) {
    const answer = await this.ask(path, { Range: `bytes=${start}-${start + size - 1}` });
    if (answer[0] === 206 && answer[1].length !== size) throw new DataError(`${path} is cut`);
    return answer;
  }

  forget(path) {
    this.first.delete(path); // the whole of a file is not kept once its tiles are read
  }

  async tile(path, sizes, number, spare) {
    const start = sizes.slice(0, number).reduce((sum, size) => sum + size, 0);
    return inflate(await this.range(path, start, sizes[number]), path, spare);
  }
}
