// Elements, and how what is on the page becomes something else without losing the focus or what was typed.
// Texts get in as text nodes and attributes alone, so that nobody's name is ever markup.

/** An element. What begins with `on` is a handler; what is null or false is left out. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value != null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter((child) => child != null && child !== false));
  return element;
}

/** Gives `place` these children, and changes only what differs. Children of one `key` stay the same elements. */
export function show(place, ...children) {
  const { activeElement } = document;
  become(place, h("div", null, children));
  // What is moved to another place loses it.
  if (activeElement.isConnected && document.activeElement !== activeElement) activeElement.focus();
}

function become(place, wanted) {
  const keyed = new Map();
  for (const child of place.children) {
    if (child.getAttribute("key")) keyed.set(child.getAttribute("key"), child);
  }
  let at = place.firstChild;
  for (const next of [...wanted.childNodes]) {
    const key = next.getAttribute?.("key") ?? null;
    const old = key ? keyed.get(key) : at?.getAttribute?.("key") ? null : at;
    if (!old || old.nodeName !== next.nodeName) {
      place.insertBefore(next, at);
      continue;
    }
    if (old === at) at = at.nextSibling;
    else place.insertBefore(old, at);
    change(old, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function change(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether it is open is the reader's.
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of ["onclick", "onsubmit", "oninput", "onchange"]) old[name] = next[name];
  become(old, next);
}
