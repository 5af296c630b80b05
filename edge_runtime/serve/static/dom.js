// Small helpers: elements made without markup from strings, so that nothing can be injected.
export const $ = (id) => document.getElementById(id);

/** An element with properties ("text", "class", "data-…", "on…", or attributes) and children. */
export function el(name, props = {}, ...children) {
  return fill(document.createElement(name), props, children);
}

export function svg(name, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), props, children);
}

function fill(node, props, children) {
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

export const show = (node, on) => { node.hidden = !on; };
export const minus = (text) => String(text).replace(/-/g, "\u2212");
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

/** Said by screen readers, seen by nobody. */
export function announce(text) {
  $("status").textContent = text;
}
