// Two points on the plot: the time, the rate and the voltage between them.
import { announce, minus, svg } from "./dom.js";
import { MM_PER_MV, MM_PER_S } from "./plot.js";

const STEP_X = 0.005 * MM_PER_S; // 5 ms
const STEP_Y = 0.05 * MM_PER_MV; // 0.05 mV
const FINE = 5; // with Shift: 1 ms, 0.01 mV

export class Calipers {
  constructor(plot, readout) {
    this.plot = plot;
    this.readout = readout;
    this.on = false;
  }

  toggle(on) {
    this.on = on;
    this.readout.hidden = !on;
    this.plot.overlay?.replaceChildren();
    if (!on) return;
    const { x, y, w, h } = this.plot.view;
    const wide = Math.min(w / 4, MM_PER_S);
    this.points = [{ x: x + w / 2 - wide / 2, y: y + h * 0.35 + 5 }, { x: x + w / 2 + wide / 2, y: y + h * 0.35 - 5 }];
    this.build();
    this.look();
  }

  /** After the plot was drawn anew. */
  renew() {
    if (this.on) this.toggle(true);
  }

  build() {
    const still = { "vector-effect": "non-scaling-stroke" };
    this.area = svg("rect", { class: "cal-box" });
    this.lines = svg("path", { class: "cal-line", fill: "none", "stroke-width": 1.2, ...still });
    this.handles = this.points.map((point, k) => {
      const dot = svg("circle", {
        class: "cal-handle", tabindex: 0, role: "slider", "stroke-width": 2, ...still,
        "aria-label": `Caliper ${k + 1}. Arrow keys move by 5 ms or 0.05 mV, with Shift by 1 ms or 0.01 mV`,
      });
      dot.addEventListener("keydown", (e) => this.key(e, point));
      dot.addEventListener("pointerdown", (e) => {
        e.stopPropagation();
        e.preventDefault();
        dot.setPointerCapture(e.pointerId);
        dot.focus();
      });
      dot.addEventListener("pointermove", (e) => {
        if (dot.hasPointerCapture(e.pointerId)) this.place(point, this.plot.at(e));
      });
      dot.addEventListener("pointerup", () => announce(this.words()));
      return dot;
    });
    this.plot.overlay.replaceChildren(this.area, this.lines, ...this.handles);
  }

  place(point, to) {
    point.x = Math.min(Math.max(0, to.x), this.plot.width);
    point.y = Math.min(Math.max(0, to.y), this.plot.height);
    this.look();
  }

  key(event, point) {
    const by = event.shiftKey ? 1 / FINE : 1;
    const moves = { ArrowLeft: [-STEP_X, 0], ArrowRight: [STEP_X, 0], ArrowUp: [0, -STEP_Y], ArrowDown: [0, STEP_Y] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    this.place(point, { x: point.x + move[0] * by, y: point.y + move[1] * by });
  }

  words() {
    const [a, b] = this.points;
    const ms = (Math.abs(b.x - a.x) / MM_PER_S) * 1000;
    const mv = (a.y - b.y) / MM_PER_MV;
    const rate = ms >= 100 ? `, ${Math.round(60000 / ms)} per minute` : "";
    return `${Math.round(ms)} ms${rate}, ${minus(mv.toFixed(2))} mV`;
  }

  look() {
    if (!this.on || !this.handles) return;
    const [a, b] = this.points;
    const { height, width, px_per_mm } = this.plot;
    const [x0, x1] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
    const [y0, y1] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
    const box = { x: x0, y: y0, width: x1 - x0, height: y1 - y0 };
    for (const [k, v] of Object.entries(box)) this.area.setAttribute(k, v);
    this.lines.setAttribute("d", `M${a.x} 0V${height}M${b.x} 0V${height}M0 ${a.y}H${width}M0 ${b.y}H${width}`);
    this.handles.forEach((dot, k) => {
      dot.setAttribute("cx", this.points[k].x);
      dot.setAttribute("cy", this.points[k].y);
      dot.setAttribute("r", 9 / px_per_mm);
      dot.setAttribute("aria-valuenow", Math.round((this.points[k].x / MM_PER_S) * 1000));
      dot.setAttribute("aria-valuetext", this.words());
    });
    this.readout.textContent = `Between the calipers: ${this.words()}`;
  }
}
