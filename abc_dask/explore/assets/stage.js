// The picture under the hand: moving, zooming, lasso, rectangle, tooltip; mouse, touch, keyboard.

import { Camera, STEPS, pointSize, scaleBar, simplified } from './geometry.js';
import { s } from './dom.js';
import { short } from './text.js';

const SLOW = 25; // milliseconds of a picture, above which the last one is moved instead
const REST = 140;
const MOST_CORNERS = 400;

export class Stage {
  constructor(app, drawing) {
    Object.assign(this, { app, drawing, canvas: drawing.canvas, pointers: new Map(), tool: 'move' });
    this.overlay = document.getElementById('overlay');
    this.tip = document.getElementById('tooltip');
    this.camera = new Camera(app.meta.layout);
    this.drawn = null;
    this.cost = 0;
    new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
    this.resize();
    this.listen();
  }

  resize() {
    const box = this.canvas.parentElement.getBoundingClientRect();
    [this.width, this.height] = [Math.max(1, box.width), Math.max(1, box.height)];
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    this.camera.fit(this.width, this.height);
    if (this.app.state.camera) {
      const [x, y, zoom] = this.app.state.camera;
      Object.assign(this.camera, { x, y, scale: zoom * this.camera.home });
    }
    this.redraw();
  }

  get size() {
    const zoom = this.camera.scale / this.camera.home;
    return Math.max(1 / this.ratio, pointSize(this.app.meta.cells, this.width, this.height, zoom) * this.app.state.size);
  }

  redraw(moving = false) {
    this.moving = moving && this.cost > SLOW && this.drawn;
    clearTimeout(this.resting);
    if (this.moving) this.resting = setTimeout(() => this.redraw(), REST);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.moving) this.shift();
      else this.paint();
      this.decorate();
    });
  }

  paint() {
    const began = performance.now();
    this.drawing.draw({ ...this.app.look(), camera: this.camera, size: this.size, ratio: this.ratio });
    this.drawing.finish();
    this.cost = performance.now() - began;
    this.drawn = { x: this.camera.x, y: this.camera.y, scale: this.camera.scale };
    this.canvas.style.transform = '';
  }

  // The picture that is there, where it belongs now.
  shift() {
    const { camera, drawn } = this, s = camera.scale / drawn.scale;
    const tx = (this.width / 2) * (1 - s) + (drawn.x - camera.x) * camera.scale;
    const ty = (this.height / 2) * (1 - s) - (drawn.y - camera.y) * camera.scale;
    this.canvas.style.transform = `matrix(${s},0,0,${s},${tx},${ty})`;
  }

  at(event) {
    const box = this.canvas.parentElement.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listen() {
    const { canvas } = this;
    const on = (name, handle, options) => canvas.addEventListener(name, handle, options);
    on('pointerdown', (e) => this.down(e));
    on('pointermove', (e) => this.move(e));
    on('pointerup', (e) => this.up(e));
    on('pointercancel', (e) => this.up(e, true));
    on('pointerleave', () => { this.tip.hidden = true; });
    on('wheel', (e) => {
      e.preventDefault();
      this.zoom(Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0015)), ...this.at(e));
    }, { passive: false });
    on('dblclick', (e) => this.zoom(2, ...this.at(e)));
    on('keydown', (e) => this.key(e));
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    this.camera.zoom(factor, px, py, this.width, this.height);
    this.moved();
  }

  moved() {
    this.redraw(true);
    this.app.state.camera = [this.camera.x, this.camera.y, this.camera.scale / this.camera.home];
    this.app.remember();
  }

  home() {
    this.camera.fit(this.width, this.height);
    this.redraw();
    this.app.state.camera = null;
    this.app.remember();
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    this.pointers.set(event.pointerId, this.at(event));
    this.tip.hidden = true;
    this.start = this.at(event);
    this.mode = this.modeOf(event);
    if (this.pointers.size === 2) this.path = this.corner = null; // two fingers zoom, whatever the tool
    else if (event.button) return;
    else if (this.box) this.corner = this.start;
    else if (this.tool === 'lasso') this.path = [this.start];
  }

  // What a new shape does to the selection; a finger has no Shift.
  modeOf(event) {
    return event.altKey ? '-' : event.shiftKey ? '+' : this.app.mode;
  }

  move(event) {
    const now = this.at(event), before = this.pointers.get(event.pointerId);
    if (!before) {
      this.pointing = now;
      this.waiting ??= setTimeout(() => { this.waiting = null; this.point(); }, 40);
      return;
    }
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
      this.camera.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      this.camera.zoom(far(now) / Math.max(1, far(before)), ...middle, this.width, this.height);
      this.moved();
    } else if (this.path) {
      const last = this.path.at(-1);
      if (Math.hypot(now[0] - last[0], now[1] - last[1]) > 1.5) this.path.push(now);
      this.decorate();
    } else if (this.corner) {
      const [x, y] = this.corner;
      this.box = [Math.min(x, now[0]), Math.min(y, now[1]), Math.abs(now[0] - x), Math.abs(now[1] - y)];
      this.decorate();
    } else if (this.tool === 'move') {
      this.camera.move(now[0] - before[0], now[1] - before[1]);
      this.moved();
    }
    this.pointers.set(event.pointerId, now);
  }

  up(event, cancelled = false) {
    const now = this.at(event);
    const clicked = this.start && Math.hypot(now[0] - this.start[0], now[1] - this.start[1]) < 4;
    if (!this.pointers.delete(event.pointerId)) return;
    const { path, corner } = this;
    this.path = this.corner = null;
    if (path && !cancelled && path.length > 2) this.enclose(path, this.mode);
    else if (corner && !cancelled && !clicked) this.encloseBox(this.mode);
    else if (clicked && !cancelled) this.point(now, true);
    this.decorate();
  }

  // A polygon of whole steps out of a path of pixels.
  enclose(path, mode) {
    let tolerance = 0.4, kept = path;
    while ((kept = simplified(path, tolerance)).length > MOST_CORNERS) tolerance *= 1.6;
    const clamp = (v) => Math.min(STEPS, Math.max(0, Math.round(v)));
    const shape = kept.flatMap(([px, py]) => this.camera.toSteps(px, py, this.width, this.height).map(clamp));
    if (shape.length >= 6) this.app.enclose(shape, mode);
  }

  async point(place = this.pointing, clicked = false) {
    if (!this.app.model.boxes) return;
    const tip = await import('./tip.js');
    tip.point(this, place, clicked);
  }

  key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const far = 0.05 * Math.min(this.width, this.height);
    if (event.ctrlKey || event.metaKey) return;
    if (step && this.box) {
      const k = event.shiftKey ? 2 : 0;
      this.box[k] = Math.max(k ? 4 : 0, this.box[k] + step[0] * far);
      this.box[k + 1] = Math.max(k ? 4 : 0, this.box[k + 1] + step[1] * far);
      this.decorate();
    } else if (step) {
      this.camera.move(-step[0] * far, -step[1] * far);
      this.moved();
    } else if (event.key === '+' || event.key === '=') this.zoom(1.4);
    else if (event.key === '-') this.zoom(1 / 1.4);
    else if (event.key === '0') this.home();
    else if (event.key === 'r' || event.key === 'R') this.toggleBox();
    else if (event.key === 'Escape') this.setBox(null);
    else if (event.key === 'Enter' && this.box) {
      this.encloseBox(this.modeOf(event));
    } else return;
    event.preventDefault();
  }

  toggleBox() {
    this.setBox(this.box ? null : [this.width * 0.375, this.height * 0.375, this.width * 0.25, this.height * 0.25]);
    this.canvas.focus({ preventScroll: true });
  }

  setBox(box) {
    this.box = box;
    for (const name of ['move', 'lasso', 'rectangle']) {
      document.getElementById(name).setAttribute('aria-pressed', String(name === (box ? 'rectangle' : this.tool)));
    }
    this.app.say(box ? 'Rectangle: draw it over cells, or move it by arrow keys, with Shift resize it, and take its cells by Enter; Escape leaves.' : undefined);
    this.decorate();
  }

  encloseBox(mode) {
    const [x, y, w, h] = this.box;
    this.enclose([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], mode);
    this.setBox(null);
  }

  use(tool) {
    this.tool = tool;
    this.canvas.classList.toggle('lasso', tool === 'lasso');
    this.setBox(null);
  }

  // What lies over the cells: sections' names, the scale bar, outlines; as SVG elements.
  parts() {
    const { camera, width, height, app } = this, found = [];
    const make = (...parts) => found.push(s(...parts));
    const { layout } = app.meta;
    for (const panel of layout.panels) {
      const left = width / 2 + (panel.x - camera.x) * camera.scale;
      const top = height / 2 - (panel.y + panel.height - camera.y) * camera.scale;
      const wide = panel.width * camera.scale, below = top + panel.height * camera.scale;
      if (wide < 34 || left > width || left + wide < 40 || top > height || below < 70) continue;
      const room = Math.floor(wide / 6.5);
      const name = panel.name.length > room ? `…${panel.name.slice(1 - room)}` : panel.name;
      // of a section that begins outside, the name stays in view
      make('text', { x: Math.max(8, left), y: top < 0 ? 60 : top - 3, class: 'name', 'font-size': 11 }, name);
    }
    if (layout.unit) {
      const [units, pixels] = scaleBar(camera.scale);
      const text = units < 1 ? `${short(units * 1000)} µm` : `${short(units)} ${layout.unit}`;
      make('path', { d: `M14 ${height - 16}h${pixels}`, class: 'bar', 'stroke-width': 3 });
      make('text', { x: 14, y: height - 22, class: 'name', 'font-size': 12 }, text);
    }
    for (const set of ['A', 'B']) {
      for (const { shape } of app.state[set]) {
        if (!shape) continue;
        const corners = [];
        for (let k = 0; k < shape.length; k += 2) corners.push(camera.toPixels(shape[k], shape[k + 1], width, height));
        make('path', { d: `M${corners.map((c) => c.map((v) => v.toFixed(1)).join(' ')).join('L')}Z`, class: `set ${set}`, fill: 'none', 'stroke-width': 1.5 });
        make('text', { x: corners[0][0] + 4, y: corners[0][1] - 4, class: `set-name ${set}`, 'font-size': 13 }, set);
      }
    }
    return { found, make };
  }

  decorate() {
    const { found, make } = this.parts();
    if (this.path) make('path', { d: `M${this.path.map((p) => p.join(' ')).join('L')}Z`, class: 'drawing' });
    if (this.box) {
      const [x, y, w, h] = this.box;
      make('rect', { x, y, width: w, height: h, class: 'drawing' });
    }
    this.overlay.replaceChildren(...found);
  }
}
