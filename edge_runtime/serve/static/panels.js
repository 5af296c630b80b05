// What was decided, found and measured, in words and figures.
import { $, el, minus, percent, show } from "./dom.js";

const HOW = {
  names: "from the lead names", pulse: "from the calibration pulse", text: "from the printed text",
  grid: "from rows and grid", marks: "from the lead names", layout: "from the arrangement",
  default: "assumed: not seen on the page", override: "as you said",
};
const UNSURE = 0.6;
const MEASURES = {
  heart_rate: "Heart rate", rhythm: "Rhythm", rr_sd: "SD of RR", ectopic_share: "Ectopic beats", p_duration: "P duration",
  pr: "PR interval", qrs: "QRS duration", qt: "QT interval", qtc_bazett: "QTc Bazett", qtc_fridericia: "QTc Fridericia",
  qtc_framingham: "QTc Framingham", axis: "Frontal axis",
};
const UNITS = { bpm: " /min", deg: "°" };

function fact(name, value, note, unsure = false) {
  const small = note ? el("small", { text: note, class: unsure ? "unsure" : null }) : null;
  return el("div", {}, el("dt", { text: name }), el("dd", {}, value, small));
}

function decidedFact(name, value, decided) {
  if (!decided) return fact(name, value);
  const unsure = decided.how === "default" || decided.confidence < UNSURE;
  const words = HOW[decided.how] ?? decided.how;
  return fact(name, value, unsure && decided.how !== "default" ? `${words}, unsure` : words, unsure);
}

export function facts(data) {
  const { layout, quality } = data;
  if (!layout) return [];
  const chest = layout.chest_gain_mm_per_mv;
  const gain = `${layout.gain_mm_per_mv}${chest ? ` (chest ${chest})` : ""}\u00a0mm/mV`;
  return [
    decidedFact("Layout", layout.name, layout.decided?.name),
    decidedFact("Paper speed", `${layout.paper_speed_mm_per_s}\u00a0mm/s`, layout.decided?.paper_speed_mm_per_s),
    decidedFact("Gain", gain, layout.decided?.gain_mm_per_mv),
    fact("Printed time", `${layout.duration_s.toFixed(1)} s`),
    fact("Traces read", percent(quality.coverage ?? 0), quality.filled ? `${percent(quality.filled)} filled in` : "no gaps filled in"),
  ];
}

export function doubts(data) {
  return (data.status === "read" ? data.gate ?? [] : []).map((g) => el("li", { text: sentence(g.advice || g.code) }));
}

/** Figures without any digits that the error bar does not support. */
function number(value, unit, error) {
  const digits = error !== null && error !== undefined && error < 0.5 && unit !== "ms" ? 1 : 0;
  return minus(value.toFixed(digits));
}

export function measures(box, data) {
  const all = Object.entries(data.measurements ?? {});
  if (!all.length) {
    box.replaceChildren(el("p", { class: "none", text: "Not measured." }));
    return;
  }
  const rows = all.filter(([, m]) => m.value !== null).map(([name, m]) => {
    const head = el("th", { scope: "row", text: MEASURES[name] ?? name });
    if (typeof m.value === "string") return el("tr", {}, head, el("td", { text: m.value }));
    const unit = UNITS[m.unit] ?? ` ${m.unit}`;
    const known = m.error !== null && m.error !== undefined;
    const error = known ? el("span", { class: "err", text: ` ± ${number(Math.max(m.error, 0.1), m.unit, m.error)}` }) : null;
    return el("tr", {}, head, el("td", {}, number(m.value, m.unit, m.error), error, unit));
  });
  const parts = rows.length ? [el("table", {}, el("tbody", {}, ...rows))] : [];
  const lacking = new Map(); // reason -> names
  for (const [name, m] of all.filter(([, x]) => x.value === null)) {
    const why = (m.reason || "no reason given").replace(/^not measured: /, "");
    lacking.set(why, [...(lacking.get(why) ?? []), MEASURES[name] ?? name]);
  }
  for (const [why, names] of lacking) {
    parts.push(el("p", { class: "lacking" }, el("b", { text: names.join(", ") }), ` not measured: ${why}`));
  }
  parts.push(el("p", { class: "small", text: "± is one standard deviation: of the method, the photo's resolution and the beats." }));
  box.replaceChildren(...parts);
}

function findingRow(f) {
  const p = f.probability;
  const decision = f.decision ?? "not assessed";
  const tag = el("span", { class: `tag ${decision.replace(/ /g, "-")}`, text: decision });
  const number = typeof p === "number" ? el("span", { class: "num", text: percent(p) }) : null;
  const meter = typeof p === "number" ? el("meter", { min: 0, max: 1, value: p, "aria-label": `Probability of ${f.name ?? f.code}` }) : null;
  const why = sentence(f.why);
  return el("li", {}, el("div", { class: "row" }, el("b", { text: f.name ?? f.code }), number, tag), meter, why ? el("span", { class: "small", text: why }) : null);
}

export function findings(box, data) {
  const all = Array.isArray(data.findings) ? data.findings : Object.values(data.findings ?? {});
  if (!all.length) {
    box.replaceChildren(el("p", { class: "none", text: "Not assessed: the nets of this version read signals and do not name findings." }));
    return;
  }
  const of = (d) => all.filter((f) => (f.decision ?? "not assessed") === d).sort((a, b) => (b.probability ?? 0) - (a.probability ?? 0));
  const present = of("present");
  const parts = [];
  if (present.length) parts.push(el("ul", { class: "list" }, ...present.map(findingRow)));
  else parts.push(el("p", { class: "none", text: of("absent").length ? "None present among those assessed." : "Not assessed." }));
  for (const [decision, title] of [["absent", "Absent"], ["not assessed", "Not assessed"]]) {
    const some = of(decision);
    if (some.length) parts.push(el("details", {}, el("summary", { text: `${title} (${some.length})` }), el("ul", { class: "list" }, ...some.map(findingRow))));
  }
  parts.push(el("p", { class: "small", text: "Findings are suggestions with calibrated probabilities, not diagnoses." }));
  box.replaceChildren(...parts);
}

function metered(name, share, good) {
  const meter = el("meter", { min: 0, max: 1, low: good * 0.8, high: good, optimum: 1, value: share, "aria-label": name });
  return el("li", {}, el("div", { class: "row" }, el("span", { text: name }), el("span", { class: "num", text: percent(share) })), meter);
}

function plain(name, value) {
  return el("li", {}, el("div", { class: "row" }, el("span", { text: name }), el("span", { class: "num", text: value })));
}

export function quality(box, data) {
  const q = data.quality ?? {};
  const has = (k) => typeof q[k] === "number";
  const rows = [];
  if (has("coverage")) rows.push(metered("Printed traces followed", q.coverage, 0.95));
  if (has("confidence")) rows.push(metered("Confidence of the traces", q.confidence, 0.75));
  if (has("px_per_mm")) rows.push(plain("Resolution", `${q.px_per_mm.toFixed(1)} px/mm`));
  if (has("lattice_residual_mm")) rows.push(plain("Flattening error", `${q.lattice_residual_mm.toFixed(2)} mm`));
  if (has("einthoven_mv") && q.einthoven_mv >= 0) rows.push(plain("I + III agrees with II within", `${q.einthoven_mv.toFixed(2)} mV`));
  const ms = Object.values(data.timings_ms ?? {}).reduce((a, b) => a + b, 0);
  if (ms) rows.push(plain("Read in", `${(ms / 1000).toFixed(1)} s`));
  const leads = Object.entries(data.leads ?? {}).filter(([, l]) => l.printed);
  const missing = Object.entries(data.leads ?? {}).filter(([, l]) => !l.printed).map(([name]) => name);
  const table = leads.length ? el("details", {}, el("summary", { text: "Lead by lead" }), leadTable(leads, missing)) : null;
  box.replaceChildren(el("ul", { class: "list" }, ...rows), ...(table ? [table] : []));
}

function leadTable(leads, missing) {
  const head = el("tr", {}, ...["Lead", "Read", "Filled in", "Confidence"].map((t, k) => (k ? el("td", { text: t, class: "err" }) : el("th", { scope: "col", text: t }))));
  const rows = leads.map(([name, l]) => el("tr", {}, el("th", { scope: "row", text: name }), ...[l.coverage, l.filled, l.confidence].map((v) => el("td", { text: percent(v) }))));
  const note = missing.length ? el("p", { class: "small", text: `Not printed: ${missing.join(", ")}.` }) : null;
  return el("div", {}, el("table", {}, el("tbody", {}, head, ...rows)), note);
}

export function downloads(list, choices, data) {
  const kinds = data.status === "read" ? choices : choices.filter((c) => c.kind === "json");
  list.replaceChildren(...kinds.map(({ kind, title }) => {
    const [name, ...rest] = title.split(": ");
    const link = el("a", { href: `/api/readings/${data.id}/files/${kind}`, download: true }, el("b", { text: name }), el("span", { text: rest.join(": ") }));
    return el("li", {}, link);
  }));
}

export function refusal(box, data) {
  show(box, data.status !== "read");
  if (data.status === "read") return;
  const advice = [...new Set((data.gate ?? []).map((g) => sentence(g.advice || g.code)))];
  const more = advice.length ? el("ul", {}, ...advice.map((text) => el("li", { text }))) : null;
  box.replaceChildren(el("h2", { text: "What to do" }), el("p", { text: sentence(data.message) }), ...(more ? [more] : []),
    el("p", { class: "small", text: `Reason: ${data.reason} (${data.stage}). No leads are shown: none is ever invented.` }));
}

export function sentence(text) {
  const t = String(text ?? "").trim();
  return t ? t[0].toUpperCase() + t.slice(1) + (/[.!?]$/.test(t) ? "" : ".") : "";
}

export function headline(data) {
  $("result-title").textContent = data.status === "read" ? "The ECG was read" : "This photo can't be read";
  const file = data.photo?.file ?? "";
  $("result-sub").textContent = data.status === "read" ? `${file}: compare it with the paper before you rely on it.` : file;
}
