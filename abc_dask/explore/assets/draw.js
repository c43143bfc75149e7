// Cells on a canvas, by WebGL 2: four bytes of place, one or two of colour and one of flags a cell.

const VERTEX = `#version 300 es
precision highp float;
precision highp int;
layout(location=0) in uvec2 place;
layout(location=1) in uint code;
layout(location=2) in uint flags;
uniform vec4 clip;
uniform float size;
uniform sampler2D palette;
uniform vec3 shade;
uniform vec3 paper;
uniform bool context;
uniform bool fade;
uniform int lit;
out vec3 color;
void main() {
  bool hidden = (flags & 1u) != 0u;
  if (place.x == 65535u || (hidden && !context)) {
    gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
    gl_PointSize = 1.0;
    return;
  }
  vec4 found = texelFetch(palette, ivec2(code & 255u, code >> 8), 0);
  float height = found.a;
  if (height == 0.0) height = float((uint(gl_VertexID) * 2654435761u) >> 16) / 65536.0;
  color = found.rgb;
  bool own = int(code) == lit && !hidden;
  if (fade && !own && (flags & 6u) == 0u) { color = mix(paper, color, 0.15); height *= 0.5; }
  else if (fade) height = 0.5 + height * 0.5;
  if (hidden) { color = shade; height = -1.0; }
  gl_Position = vec4(vec2(place) * clip.xy + clip.zw, 0.9 - height * 0.8, 1.0);
  if (hidden) gl_Position.z = 0.95;
  gl_PointSize = own ? 2.0 * size + 1.0 : size;
  if (own) gl_Position.z = 0.0;
}`;

const FRAGMENT = `#version 300 es
precision mediump float;
in vec3 color;
uniform bool round;
out vec4 pixel;
void main() {
  if (round && distance(gl_PointCoord, vec2(0.5)) > 0.5) discard;
  pixel = vec4(color, 1.0);
}`;

export class Drawing {
  constructor(canvas, n) {
    const gl = canvas.getContext('webgl2', { antialias: false, alpha: false, preserveDrawingBuffer: true });
    if (!gl) throw new Error('This browser offers no WebGL 2, which draws the cells: turn its hardware acceleration on, or take another browser.');
    [this.gl, this.canvas, this.n] = [gl, canvas, n];
    this.program = this.link();
    gl.useProgram(this.program);
    this.at = new Proxy({}, { get: (known, name) => (known[name] ??= gl.getUniformLocation(this.program, name)) });
    this.buffers = [2, 1, 1].map((parts, k) => {
      gl.enableVertexAttribArray(k);
      return { parts, buffer: gl.createBuffer() };
    });
    this.put(2, new Uint8Array(n));
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const [name, value] of [['MIN_FILTER', 'NEAREST'], ['MAG_FILTER', 'NEAREST']]) {
      gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl[value]);
    }
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
  }

  link() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  // which: 0 places, 1 codes, 2 flags; `first` counts cells
  put(which, values, first = 0) {
    const { gl } = this, kept = this.buffers[which], width = values.BYTES_PER_ELEMENT;
    gl.bindBuffer(gl.ARRAY_BUFFER, kept.buffer);
    if (kept.width !== width) {
      kept.width = width;
      gl.bufferData(gl.ARRAY_BUFFER, Math.max(4, kept.parts * width * this.n), gl.DYNAMIC_DRAW);
      gl.vertexAttribIPointer(which, kept.parts, width === 1 ? gl.UNSIGNED_BYTE : gl.UNSIGNED_SHORT, 0, 0);
    }
    gl.bufferSubData(gl.ARRAY_BUFFER, first * kept.parts * width, values);
  }

  palette(colors) {
    const { gl } = this;
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 256, 0, gl.RGBA, gl.UNSIGNED_BYTE, colors);
  }

  draw({ camera, count, size, ratio, paper, shade, context, fade, lit }) {
    const { gl, canvas, at } = this;
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...paper.map((v) => v / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform4f(at.clip, ...camera.clip(canvas.width / ratio, canvas.height / ratio));
    gl.uniform1f(at.size, size * ratio);
    gl.uniform1i(at.round, size * ratio > 2.5);
    gl.uniform3f(at.paper, ...paper.map((v) => v / 255));
    gl.uniform3f(at.shade, ...shade.map((v) => v / 255));
    gl.uniform1i(at.context, context);
    gl.uniform1i(at.fade, fade);
    gl.uniform1i(at.lit, lit);
    if (count) gl.drawArrays(gl.POINTS, 0, count);
  }

  // Wait until all is drawn: a pixel is read.
  finish() {
    this.gl.readPixels(0, 0, 1, 1, this.gl.RGBA, this.gl.UNSIGNED_BYTE, new Uint8Array(4));
  }
}
