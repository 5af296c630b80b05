// The leads as vector graphics at 25 mm/s and 10 mm/mV: one user unit of the SVG is one millimetre of paper.
import { minus, svg } from "./dom.js";

export const MM_PER_S = 25;
export const MM_PER_MV = 10;
const LEFT = 10; // the calibration pulse stands here
const EDGE = 3;
const REACH_UP = 9;
const REACH_DOWN = 7;
const MOST = 34; // a row takes no more than this above and below its zero line
const FINE_PX = 2.6; // fine lines closer than this are left out
const MAX_ZOOM = 16;
const ORDER = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];

/** Lines of traces: as printed (rows of the page), or one below another, long strips wrapped. */
function arrange(strips, mode) {
  const lines = [];
  if (mode === "page") {
    for (const row of [...new Set(strips.map((s) => s.row))].sort((a, b) => a - b)) {
      lines.push(strips.filter((s) => s.row === row).map((s) => piece(s, 0, s.uv.length, s.start_s)));
    }
    return lines;
  }
  const shortest = Math.min(...strips.map((s) => s.uv.length / s.fs_hz));
  const span_s = Math.min(5, Math.max(2, shortest));
  const length = (s) => s.uv.length / s.fs_hz;
  const place = (s) => ORDER.indexOf(s.lead.replace("-", "")) + (length(s) > 1.5 * shortest ? ORDER.length : 0);
  for (const s of [...strips].sort((a, b) => place(a) - place(b))) {
    const step = Math.round(span_s * s.fs_hz);
    const n = Math.max(1, Math.round(s.uv.length / step));
    for (let k = 0; k < n; k++) {
      lines.push([piece(s, k * step, k === n - 1 ? s.uv.length : (k + 1) * step, 0, k, n)]);
    }
  }
  return lines;
}

function piece(strip, from, to, x_s, part = 0, parts = 1) {
  return { strip, from, to, x_s, part, parts };
}

function reach(pieces) {
  let up = REACH_UP;
  let down = REACH_DOWN;
  for (const { strip, from, to } of pieces) {
    for (let i = from; i < to; i++) {
      const v = strip.uv[i];
      if (v === null) continue;
      up = Math.max(up, (v / 1000) * MM_PER_MV + 1.5);
      down = Math.max(down, (-v / 1000) * MM_PER_MV + 1.5);
    }
  }
  return [Math.min(up, MOST), Math.min(down, MOST)];
}

function pathOf(p, x0, y0, from, to) {
  const { strip } = p;
  let d = "";
  let pen = false;
  for (let i = from; i < to; i++) {
    const v = strip.uv[i];
    if (v === null) { pen = false; continue; }
    const x = (x0 + ((i - p.from) / strip.fs_hz) * MM_PER_S).toFixed(2);
    d += `${pen ? "L" : "M"}${x} ${(y0 - (v / 1000) * MM_PER_MV).toFixed(2)}`;
    pen = true;
  }
  return d;
}

function traceOf(p, x0, y0) {
  const { strip } = p;
  const end = strip.start_s + p.to / strip.fs_hz;
  const label = `Lead ${strip.lead}, ${(strip.start_s + p.from / strip.fs_hz).toFixed(1)} to ${end.toFixed(1)} seconds`;
  const g = svg("g", { role: "img", "aria-label": label });
  const stroke = { "vector-effect": "non-scaling-stroke", "stroke-width": 1.3 };
  g.append(svg("path", { class: "trace", d: pathOf(p, x0, y0, p.from, p.to), ...stroke }));
  for (const [a, b] of strip.filled) {
    const d = pathOf(p, x0, y0, Math.max(p.from, a - 1), Math.min(p.to, b + 1));
    if (d) g.append(svg("path", { class: "trace filled", d, ...stroke }));
  }
  return g;
}

function pulse(y0) {
  return svg("path", { class: "trace", d: `M3 ${y0}h1.5v-10h5v10h1.5`, "vector-effect": "non-scaling-stroke", "stroke-width": 1.3 });
}

function drawLine(pieces, y0, up, mode) {
  const g = svg("g", {}, pulse(y0));
  for (const p of pieces) {
    const x0 = LEFT + 2 + p.x_s * MM_PER_S;
    g.append(traceOf(p, x0, y0));
    const name = svg("text", { class: "lead-name", x: x0 + 1, y: y0 - up + 3.6, text: minus(p.strip.lead) });
    g.append(name);
    if (p.x_s > 0) g.append(svg("path", { class: "sep", d: `M${x0} ${y0 - 3}v6`, "vector-effect": "non-scaling-stroke", "stroke-width": 1 }));
    if (mode === "list") {
      const from = p.strip.start_s + p.from / p.strip.fs_hz;
      const text = `${from.toFixed(1)} s${p.parts > 1 ? ` (${p.part + 1} of ${p.parts})` : ""}`;
      g.append(svg("text", { class: "lead-note", x: x0 + 12.5, y: y0 - up + 3.6, text }));
    }
  }
  return g;
}

function gridPath(width, height, step) {
  let d = "";
  for (let x = 0; x <= width + 1e-6; x += step) d += `M${x} 0V${height}`;
  for (let y = 0; y <= height + 1e-6; y += step) d += `M0 ${y}H${width}`;
  return d;
}

/** The plot in a box; zoomed and moved by pointer, wheel and keys. */
export class Plot {
  constructor(box) {
    this.box = box;
    this.pointers = new Map();
    this.onview = () => {};
    box.addEventListener("wheel", (e) => this.wheel(e), { passive: false });
    new ResizeObserver(() => this.look()).observe(box);
  }

  draw(strips, mode) {
    const lines = arrange(strips, mode);
    const reaches = lines.map(reach);
    const ends = lines.flat().map((p) => LEFT + 2 + p.x_s * MM_PER_S + ((p.to - p.from) / p.strip.fs_hz) * MM_PER_S);
    this.width = 5 * Math.ceil((Math.max(...ends) + EDGE) / 5);
    const g = svg("g");
    let y = EDGE - 1;
    lines.forEach((pieces, k) => {
      const [up, down] = reaches[k];
      const y0 = 5 * Math.ceil((y + up) / 5);
      g.append(drawLine(pieces, y0, up, mode));
      y = y0 + down;
    });
    this.height = 5 * Math.ceil((y + 1) / 5);
    const still = { "vector-effect": "non-scaling-stroke", fill: "none" };
    this.fine = svg("path", { class: "fine", d: gridPath(this.width, this.height, 1), "stroke-width": 0.6, ...still });
    const heavy = svg("path", { class: "heavy", d: gridPath(this.width, this.height, 5), "stroke-width": 0.9, ...still });
    this.overlay = svg("g");
    this.svg = svg("svg", {
      tabindex: 0, role: "group", "preserveAspectRatio": "xMidYMid meet",
      "aria-label": "The leads at 25 mm/s and 10 mm/mV. Arrow keys move, plus and minus zoom, 0 fits.",
    }, this.fine, heavy, g, this.overlay);
    this.listen();
    this.box.replaceChildren(this.svg);
    this.svg.style.aspectRatio = `${this.width} / ${this.height}`;
    this.fit();
  }

  fit() {
    this.view = { x: 0, y: 0, w: this.width, h: this.height };
    this.look();
  }

  get zoom() { return this.width / this.view.w; }
  get px_per_mm() { return (this.svg.clientWidth || 1) / this.view.w; }

  look() {
    if (!this.svg) return;
    const v = this.view;
    v.w = Math.min(v.w, this.width);
    v.h = (v.w * this.height) / this.width;
    v.x = Math.min(Math.max(0, v.x), this.width - v.w);
    v.y = Math.min(Math.max(0, v.y), this.height - v.h);
    this.svg.setAttribute("viewBox", `${v.x} ${v.y} ${v.w} ${v.h}`);
    this.svg.style.setProperty("--name", `${Math.min(4.2, 20 / this.px_per_mm)}px`);
    this.svg.style.setProperty("--note", `${Math.min(3, 14 / this.px_per_mm)}px`);
    this.fine.style.display = this.px_per_mm < FINE_PX ? "none" : "";
    this.box.classList.toggle("zoomed", this.zoom > 1.01);
    this.onview();
  }

  /** Zoom by a factor around a place in millimetres, the middle if none is given. */
  zoomBy(factor, at) {
    const v = this.view;
    at ??= { x: v.x + v.w / 2, y: v.y + v.h / 2 };
    const w = Math.min(this.width, Math.max(this.width / MAX_ZOOM, v.w / factor));
    const share = w / v.w;
    v.x = at.x - (at.x - v.x) * share;
    v.y = at.y - (at.y - v.y) * share;
    v.w = w;
    this.look();
  }

  move(dx, dy) {
    this.view.x += dx;
    this.view.y += dy;
    this.look();
  }

  /** Millimetres under a pointer. */
  at(event) {
    const r = this.svg.getBoundingClientRect();
    const v = this.view;
    return { x: v.x + ((event.clientX - r.left) / r.width) * v.w, y: v.y + ((event.clientY - r.top) / r.height) * v.h };
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY / 300), this.at(event));
  }

  listen() {
    this.svg.addEventListener("pointerdown", (e) => {
      if (e.button > 0) return;
      this.pointers.set(e.pointerId, e);
      if (this.zoom > 1.01 || this.pointers.size > 1) this.svg.setPointerCapture(e.pointerId);
      this.svg.classList.add("grabbing");
    });
    this.svg.addEventListener("pointermove", (e) => this.dragged(e));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      this.svg.addEventListener(end, (e) => {
        this.pointers.delete(e.pointerId);
        if (!this.pointers.size) this.svg.classList.remove("grabbing");
      });
    }
    this.svg.addEventListener("dblclick", (e) => this.zoomBy(1.8, this.at(e)));
    this.svg.addEventListener("keydown", (e) => this.key(e));
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((p) => p.pointerId !== event.pointerId);
    if (others.length) {
      const gap = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
      this.zoomBy(gap(event, others[0]) / gap(before, others[0]), this.at(event));
    } else if (this.zoom > 1.01) {
      const a = this.at(before);
      const b = this.at(event);
      this.move(a.x - b.x, a.y - b.y);
    }
    this.pointers.set(event.pointerId, event);
  }

  key(event) {
    if (event.target !== this.svg || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = this.view.w / 10;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key] && this.zoom > 1.01) this.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.4);
    else if (event.key === "-") this.zoomBy(1 / 1.4);
    else if (event.key === "0") this.fit();
    else return;
    event.preventDefault();
  }
}
