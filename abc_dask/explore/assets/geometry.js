// Places, boxes, polygons, cameras. Places are whole steps, 0 to 65534; 65535 is nowhere.

export const NOWHERE = 65535;
export const STEPS = 65534;
export const CHUNK = 4096; // cells of a box
const BANDS = 512;
const TOOLS = 42; // pixels at the top, where the tools lie

// The box around each run of cells: left, lower, right, upper; left > right where it is empty.
export function boxesOf(places, n) {
  const boxes = new Uint16Array(4 * Math.ceil(n / CHUNK));
  for (let start = 0, b = 0; start < n; start += CHUNK, b += 4) {
    let x0 = NOWHERE, y0 = NOWHERE, x1 = 0, y1 = 0;
    for (let i = start; i < Math.min(n, start + CHUNK); i++) {
      const x = places[2 * i], y = places[2 * i + 1];
      if (x === NOWHERE) continue;
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
    boxes.set([x0, y0, x1, y1], b);
  }
  return boxes;
}

// For each band of y the edges that reach into it: a point meets few of them.
class Bands {
  constructor(shape) {
    const ys = shape.filter((_, k) => k % 2), xs = shape.filter((_, k) => k % 2 === 0);
    [this.left, this.right] = [Math.min(...xs), Math.max(...xs)];
    [this.low, this.high] = [Math.min(...ys), Math.max(...ys)];
    this.scale = BANDS / Math.max(1, this.high - this.low + 1);
    this.edges = Array.from({ length: BANDS }, () => []);
    const n = xs.length;
    for (let i = 0, j = n - 1; i < n; j = i++) {
      if (ys[i] === ys[j]) continue;
      const low = Math.min(ys[i], ys[j]), high = Math.max(ys[i], ys[j]);
      const slope = (xs[j] - xs[i]) / (ys[j] - ys[i]);
      for (let b = this.band(low); b <= this.band(high); b++) {
        this.edges[b].push(low, high, slope, xs[i] - slope * ys[i]);
      }
    }
  }

  band(y) {
    return Math.min(BANDS - 1, Math.max(0, Math.floor((y - this.low) * this.scale)));
  }

  holds(x, y) {
    if (x < this.left || x > this.right || y < this.low || y > this.high) return false;
    const edges = this.edges[this.band(y)];
    let inside = false;
    for (let e = 0; e < edges.length; e += 4) {
      if (y >= edges[e] && y < edges[e + 1] && x < edges[e + 2] * y + edges[e + 3]) inside = !inside;
    }
    return inside;
  }
}

// Call with each cell that lies in a polygon (x0, y0, x1, y1, ...), by the even-odd rule.
export function cellsWithin(shape, places, boxes, n, take) {
  if (shape.length < 6) return;
  const bands = new Bands(shape);
  for (let b = 0, start = 0; start < n; b += 4, start += CHUNK) {
    if (boxes[b] > bands.right || boxes[b + 2] < bands.left) continue;
    if (boxes[b + 1] > bands.high || boxes[b + 3] < bands.low) continue;
    const stop = Math.min(n, start + CHUNK);
    for (let i = start; i < stop; i++) {
      const x = places[2 * i];
      if (x !== NOWHERE && bands.holds(x, places[2 * i + 1])) take(i);
    }
  }
}

// Leave out points of a path that lie within a tolerance of the line (Douglas and Peucker 1973).
export function simplified(points, tolerance) {
  if (points.length < 3) return points;
  const kept = new Set([0, points.length - 1]);
  const stack = [[0, points.length - 1]];
  while (stack.length) {
    const [first, last] = stack.pop();
    const [ax, ay] = points[first], [bx, by] = points[last];
    const length = Math.hypot(bx - ax, by - ay);
    let far = tolerance, at = -1;
    for (let k = first + 1; k < last; k++) {
      const [px, py] = points[k];
      const off = length
        ? Math.abs((bx - ax) * (ay - py) - (ax - px) * (by - ay)) / length
        : Math.hypot(px - ax, py - ay);
      if (off > far) [far, at] = [off, k];
    }
    if (at > 0) {
      kept.add(at);
      stack.push([first, at], [at, last]);
    }
  }
  return points.filter((_, k) => kept.has(k));
}

// What is shown: the middle in units of the data, and pixels a unit.
export class Camera {
  constructor(layout) {
    this.layout = layout;
    [this.x, this.y, this.scale] = [0, 0, 1];
  }

  fit(width, height) {
    const { x, y, panels = [] } = this.layout, top = Math.max(y[1], ...panels.map((panel) => panel.y + panel.height));
    this.x = (x[0] + x[1]) / 2;
    this.y = (y[0] + top) / 2;
    const room = (size, taken) => Math.max(20, size - taken - 2 * Math.min(24, size * 0.05));
    this.home = Math.min(room(width, 0) / (x[1] - x[0]), room(height, TOOLS) / (top - y[0]));
    this.scale = this.home;
    this.y += TOOLS / 2 / this.home;
    return this;
  }

  // from pixels (y downwards) to units, and to steps
  toData(px, py, width, height) {
    return [this.x + (px - width / 2) / this.scale, this.y - (py - height / 2) / this.scale];
  }

  toSteps(px, py, width, height) {
    const [ux, uy] = this.toData(px, py, width, height);
    const { x, y } = this.layout;
    return [((ux - x[0]) / (x[1] - x[0])) * STEPS, ((uy - y[0]) / (y[1] - y[0])) * STEPS];
  }

  toPixels(sx, sy, width, height) {
    const { x, y } = this.layout;
    const ux = x[0] + (sx / STEPS) * (x[1] - x[0]), uy = y[0] + (sy / STEPS) * (y[1] - y[0]);
    return [width / 2 + (ux - this.x) * this.scale, height / 2 - (uy - this.y) * this.scale];
  }

  move(dx, dy) {
    this.x -= dx / this.scale;
    this.y += dy / this.scale;
  }

  zoom(factor, px, py, width, height) {
    const [x, y] = this.toData(px, py, width, height);
    this.scale = Math.min(Math.max(this.scale * factor, this.home / 4), this.home * 4000);
    const [nx, ny] = this.toData(px, py, width, height);
    this.x += x - nx;
    this.y += y - ny;
  }

  // clip coordinates of a step: factor and offset of x and of y
  clip(width, height) {
    const { x, y } = this.layout;
    const fx = (2 * this.scale) / width, fy = (2 * this.scale) / height;
    return [
      ((x[1] - x[0]) / STEPS) * fx, ((y[1] - y[0]) / STEPS) * fy,
      (x[0] - this.x) * fx, (y[0] - this.y) * fy,
    ];
  }
}

// A round length for a scale bar of at most so many pixels: its units and its pixels.
export function scaleBar(pixelsPerUnit, most = 120) {
  const longest = most / pixelsPerUnit;
  const power = 10 ** Math.floor(Math.log10(longest));
  const units = [5, 2, 1].map((k) => k * power).find((u) => u <= longest) ?? power;
  return [units, units * pixelsPerUnit];
}

// Pixels across a point: they cover about a third of the page, whatever their number.
export function pointSize(n, width, height, zoom) {
  const size = Math.sqrt((0.35 * width * height) / Math.max(1, n));
  return Math.min(14, Math.max(1, Math.min(6, size) * Math.sqrt(Math.max(1, zoom))));
}
