// Layout, paper speed, gain and lead names as the user says they are.
import { $, el, minus } from "./dom.js";

function options(select, values, text, chosen) {
  select.replaceChildren(...values.map((v) => el("option", { value: v ?? "", selected: v === chosen, text: text(v) })));
}

export class Corrections {
  constructor(choices, send) {
    this.choices = choices;
    $("fix").addEventListener("submit", (e) => { e.preventDefault(); send(this.said()); });
    $("fix-reset").addEventListener("click", () => send({}));
    $("fix-layout").addEventListener("change", () => this.look());
  }

  fill(data) {
    this.data = data;
    const { layouts, speeds, gains, leads } = this.choices;
    const read = data.layout;
    const auto = (v, unit) => (v === null || v === undefined ? "as read" : `${v}${unit} (read)`);
    const c = data.corrections;
    const was = (key) => (c[key] === null ? read?.[{ layout: "name", speed: "paper_speed_mm_per_s", gain: "gain_mm_per_mv" }[key]] : undefined);
    options($("fix-layout"), [null, ...layouts], (v) => v ?? auto(was("layout"), ""), c.layout);
    options($("fix-speed"), [null, ...speeds], (v) => (v ? `${v} mm/s` : auto(was("speed"), " mm/s")), c.speed);
    options($("fix-gain"), [null, ...gains], (v) => (v ? `${v} mm/mV` : auto(was("gain"), " mm/mV")), c.gain);
    this.names = data.strips.map((s) => {
      const select = el("select", { "aria-label": `Lead in row ${s.row + 1} from ${s.start_s.toFixed(1)} s` });
      options(select, leads, (v) => minus(v), s.lead);
      return select;
    });
    $("fix-leads").replaceChildren(...this.rows(data.strips));
    $("fix-leads-box").hidden = !this.names.length;
    const changed = c.layout !== null || c.speed !== null || c.gain !== null || c.leads !== null;
    $("fix-reset").hidden = !changed;
    this.look();
  }

  /** The names as they stand on the page. */
  rows(strips) {
    const rows = [...new Set(strips.map((s) => s.row))].sort((a, b) => a - b);
    return rows.map((row) => {
      const inRow = this.names.filter((_, k) => strips[k].row === row);
      return el("div", {}, el("span", { text: `Row ${row + 1}` }), ...inRow);
    });
  }

  /** Another layout brings its own names. */
  look() {
    const other = ($("fix-layout").value || null) !== this.data.corrections.layout;
    for (const select of this.names) select.disabled = other;
  }

  said() {
    const value = (id) => $(id).value || null;
    const number = (id) => (value(id) === null ? null : Number(value(id)));
    const names = this.names.map((s) => s.value);
    const moved = names.some((name, k) => name !== this.data.strips[k].lead) || this.data.corrections.leads !== null;
    const keep = names.length > 0 && moved && !this.names[0].disabled;
    return { layout: value("fix-layout"), speed: number("fix-speed"), gain: number("fix-gain"), leads: keep ? names : null };
  }
}
