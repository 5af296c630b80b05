// From a photo to its reading on the page. The photo goes to this computer's own server and nowhere else.
import { $, announce, show, svg } from "./dom.js";
import { Plot } from "./plot.js";
import { Calipers } from "./calipers.js";
import { Corrections } from "./corrections.js";
import * as panels from "./panels.js";

const MARK = { "X-Ecgscan": "1" };
const NARROW_PX = 640;
const TRIES = 6;
let about = null;
let current = null; // the reading on the page
let photoUrl = null;
let sending = null;
let corrections = null;
const plot = new Plot($("plot"));
const calipers = new Calipers(plot, $("readout"));
plot.onview = () => calipers.look();
let mode = window.innerWidth < NARROW_PX ? "list" : "page";

class Said extends Error {}

// -------------------------------------------------------------------------------------------- server

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...MARK, ...options.headers } });
  } catch (err) {
    throw new Said("ecgscan does not answer: is it still running on the computer?");
  }
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Said(said.message ?? `answer ${answer.status}`);
  return said;
}

/** One upload with its progress; resolves to {status, retry_s, said}. */
function upload(file) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    sending = request;
    request.open("POST", "/api/readings");
    request.setRequestHeader("X-Ecgscan", "1");
    request.setRequestHeader("Content-Type", file.type === "application/pdf" || file.type.startsWith("image/") ? file.type : "application/octet-stream");
    request.setRequestHeader("X-Filename", encodeURIComponent(file.name || "photo"));
    request.responseType = "json";
    request.upload.onprogress = (e) => busyText(e.lengthComputable && e.loaded < e.total ? `Sending ${Math.round((100 * e.loaded) / e.total)} %` : "Reading");
    request.onload = () => resolve({ status: request.status, retry_s: Number(request.getResponseHeader("Retry-After")), said: request.response ?? {} });
    request.onerror = () => reject(new Said("ecgscan does not answer: is it still running on the computer?"));
    request.onabort = () => reject(null);
    request.send(file);
  });
}

// -------------------------------------------------------------------------------------------- views

function view(name) {
  for (const id of ["start", "busy", "result"]) show($(id), id === name);
  show($("again"), name === "result");
  window.scrollTo(0, 0);
}

function problem(title, text) {
  show($("problem"), Boolean(title));
  $("problem-title").textContent = title ?? "";
  $("problem-text").textContent = panels.sentence(text);
}

let busySince = 0;
let busyWords = "";
function busyText(words) {
  busyWords = words;
  const s = Math.floor((performance.now() - busySince) / 1000);
  $("busy-text").textContent = words === "Reading" && s >= 2 ? `Reading, ${s} s` : words;
}
setInterval(() => { if (!$("busy").hidden) busyText(busyWords); }, 1000);

// -------------------------------------------------------------------------------------------- a photo

async function read(file) {
  if (!file || sending) return;
  problem(null);
  if (about && file.size > about.max_upload_bytes) {
    problem("This file is too large", `${(file.size / 1e6).toFixed(0)} MB, at most ${(about.max_upload_bytes / 1e6).toFixed(0)} MB; send the photo as JPEG`);
    return;
  }
  setPhoto(file);
  busySince = performance.now();
  view("busy");
  busyText("Sending");
  announce("Reading the photo");
  $("busy-title").focus();
  try {
    const data = await readPatiently(file);
    forget(); // the one before
    current = data;
    render();
    view("result");
    $("result-title").focus();
    announce(data.status === "read" ? "The ECG was read" : "This photo can't be read");
  } catch (err) {
    view(current ? "result" : "start");
    if (err) problem("The photo was not read", err.message);
  } finally {
    sending = null;
    for (const id of ["camera", "file"]) $(id).value = "";
  }
}

/** While other photos are being read the server says when to come back. */
async function readPatiently(file) {
  for (let k = 0; ; k++) {
    const { status, retry_s, said } = await upload(file);
    if (status === 200) return said;
    if (status !== 503 || k >= TRIES) throw new Said(said.message ?? `answer ${status}`);
    busyText("Other photos are being read; yours is next");
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, 1000 * (retry_s || 5));
      sending = { abort: () => { clearTimeout(timer); reject(null); } };
    });
  }
}

function setPhoto(file) {
  if (photoUrl) URL.revokeObjectURL(photoUrl);
  photoUrl = URL.createObjectURL(file);
  $("busy-photo").src = photoUrl;
}

function forget() {
  if (!current) return;
  fetch(`/api/readings/${current.id}`, { method: "DELETE", headers: MARK, keepalive: true }).catch(() => {});
  current = null;
}

function startOver() {
  forget();
  if (photoUrl) URL.revokeObjectURL(photoUrl);
  photoUrl = null;
  for (const id of ["sheet", "busy-photo"]) $(id).removeAttribute("src");
  plot.box.replaceChildren();
  problem(null);
  view("start");
  $("main").focus();
}

// -------------------------------------------------------------------------------------------- the reading

function render() {
  const data = current;
  const wasRead = data.status === "read";
  panels.headline(data);
  panels.refusal($("refused"), data);
  $("facts").replaceChildren(...panels.facts(data));
  show($("facts"), wasRead);
  $("columns").classList.toggle("refused", !wasRead);
  $("sheet-title").textContent = wasRead ? "The sheet" : "Your photo";
  $("doubts").replaceChildren(...panels.doubts(data));
  for (const id of ["leads-card", "findings-card", "measures-card"]) show($(id), wasRead);
  for (const link of $("jump").children) show(link, wasRead || /sheet|fix|save/.test(link.hash));
  show($("quality-card"), Object.keys(data.quality ?? {}).length > 0);
  panels.findings($("findings"), data);
  panels.measures($("measures"), data);
  panels.quality($("quality"), data);
  panels.downloads($("downloads"), about.downloads, data);
  corrections.fill(data);
  if (wasRead) drawLeads();
  picture(wasRead);
}

function drawLeads() {
  $("view-page").setAttribute("aria-pressed", mode === "page");
  $("view-list").setAttribute("aria-pressed", mode === "list");
  plot.draw(current.strips, mode);
  calipers.renew();
}

let version = 0;
function picture(sheet) {
  $("show-sheet").disabled = current.status !== "read";
  $("show-sheet").setAttribute("aria-pressed", sheet);
  $("show-photo").setAttribute("aria-pressed", !sheet);
  $("sheet").src = sheet ? `/api/readings/${current.id}/sheet?${version++}` : photoUrl;
  show($("sheet-note"), sheet);
  $("sheet").alt = sheet ? "The flattened sheet: what was read is blue, what was filled in is orange" : "Your photo";
}

async function correct(said) {
  const card = $("fix");
  const buttons = [...card.querySelectorAll("button")];
  buttons.forEach((b) => { b.disabled = true; });
  $("fix-go").textContent = "Reading";
  announce("Reading again");
  problem(null);
  try {
    current = await ask(`/api/readings/${current.id}/corrections`, { method: "POST", body: JSON.stringify(said), headers: { "Content-Type": "application/json" } });
    render();
    announce(current.status === "read" ? "Read again with your corrections" : "It can't be read with these corrections");
  } catch (err) {
    problem("The corrections were not applied", err.message);
    $("problem").scrollIntoView({ block: "center" });
  } finally {
    buttons.forEach((b) => { b.disabled = false; });
    $("fix-go").textContent = "Read again";
  }
}

// -------------------------------------------------------------------------------------------- wiring

function phoneCode({ url, qr_modules, qr_path }) {
  show($("phone"), true);
  const image = svg("svg", { viewBox: `0 0 ${qr_modules} ${qr_modules}`, role: "img", "aria-label": "QR code that connects a phone", "shape-rendering": "crispEdges" },
    svg("rect", { width: qr_modules, height: qr_modules, fill: "#fff" }), svg("path", { d: qr_path, fill: "#000" }));
  $("qr").replaceChildren(image);
  $("phone-url").textContent = url;
}

async function boot() {
  about = await ask("/api/state");
  const local = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  const kept = about.stores ? "results are kept on it" : "nothing is stored";
  if (about.phone) $("where").textContent = `Open to phones that scan the code; ${kept}`;
  else $("where").textContent = local ? `Runs on this computer only; ${kept}` : `Connected to the computer; ${kept}`;
  $("about").textContent = `${$("where").textContent}. ecgscan ${about.version}, nets ${about.bundle}. The photo stays in memory, for ${about.forgets_after_min} minutes after its last use or until you forget it.`;
  if (about.keeps_header) $("sheet-note").textContent = "Flattened. Blue was read, orange filled in. The printed header is shown: it may name the patient.";
  if (about.phone) phoneCode(about.phone);
  corrections = new Corrections(about, correct);
}

function listen() {
  const take = (files) => { const file = files?.[0]; if (file) ready.then(() => read(file)); };
  for (const id of ["camera", "file"]) $(id).addEventListener("change", (e) => take(e.target.files));
  $("cancel").addEventListener("click", () => sending?.abort());
  $("again").addEventListener("click", startOver);
  $("forget").addEventListener("click", () => { startOver(); announce("The photo is forgotten"); });
  $("qr-again").addEventListener("click", () => ask("/api/state").then((s) => phoneCode(s.phone)).catch((err) => problem("No code", err.message)));
  $("view-page").addEventListener("click", () => { mode = "page"; drawLeads(); });
  $("view-list").addEventListener("click", () => { mode = "list"; drawLeads(); });
  $("zoom-in").addEventListener("click", () => plot.zoomBy(1.5));
  $("zoom-out").addEventListener("click", () => plot.zoomBy(1 / 1.5));
  $("zoom-fit").addEventListener("click", () => plot.fit());
  $("calipers").addEventListener("click", (e) => {
    calipers.toggle(!calipers.on);
    e.currentTarget.setAttribute("aria-pressed", calipers.on);
    if (calipers.on) announce(`Calipers shown: ${calipers.words()}`);
  });
  $("show-sheet").addEventListener("click", () => picture(true));
  $("show-photo").addEventListener("click", () => picture(false));
  $("sheet-zoom").addEventListener("click", (e) => e.currentTarget.setAttribute("aria-pressed", $("sheet-box").classList.toggle("full")));
  $("sheet").addEventListener("error", () => { $("sheet").alt = "This browser can't show the photo's format"; });
  $("busy-photo").addEventListener("error", () => $("busy-photo").removeAttribute("src"));
  dropping(take);
  window.addEventListener("pagehide", (e) => { if (!e.persisted) forget(); });
}

function dropping(take) {
  const over = (on) => $("drop").classList.toggle("over", on);
  window.addEventListener("dragover", (e) => { e.preventDefault(); over(true); });
  window.addEventListener("dragleave", (e) => { if (!e.relatedTarget) over(false); });
  window.addEventListener("drop", (e) => { e.preventDefault(); over(false); take(e.dataTransfer?.files); });
  window.addEventListener("paste", (e) => take(e.clipboardData?.files));
}

listen();
const ready = boot();
ready.catch((err) => problem("Not connected", err.message));
