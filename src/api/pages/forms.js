// Fields, forms and the dialogs that they stand in.
import { h, show } from "./dom.js";
import { reason, say } from "./session.js";

let count = 0;

/** A labelled control with a hint. */
export function labelled(label, hint, make) {
  const id = `field-${++count}`;
  return h("p", { class: "field" }, h("label", { for: id }, label), make({ id, "aria-describedby": hint && `${id}-hint` }),
    hint && h("small", { id: `${id}-hint` }, hint));
}

/** A line of text. */
export const field = (name, label, hint, attributes) =>
  labelled(label, hint, (given) => h("input", { ...given, name, required: true, autocomplete: "off", ...attributes }));

/** A choice: values and what they mean. */
export const choice = (name, label, options, chosen) =>
  labelled(label, null, (given) =>
    h("select", { ...given, name }, options.map(([value, text]) => h("option", { value, selected: String(value) === String(chosen) }, text))));

/** A box to tick. */
export const check = (name, label, attributes) => h("label", { class: "check" }, h("input", { type: "checkbox", name, ...attributes }), label);

/** A form. `submit` gets what is in it; while that works there is no second one, and what goes wrong is said here. */
export function form(word, submit, fields, ...more) {
  const problem = h("p", { class: "problem", role: "alert" });
  const button = h("button", { class: "main" }, word);
  let isBusy = false;
  const onsubmit = async (event) => {
    event.preventDefault();
    if (isBusy) return;
    isBusy = true;
    const values = Object.fromEntries(new FormData(event.target));
    problem.textContent = "";
    button.setAttribute("aria-disabled", "true");
    button.textContent = say("working");
    try {
      await submit(values);
    } catch (failure) {
      problem.textContent = reason(failure);
    }
    isBusy = false;
    button.removeAttribute("aria-disabled");
    button.textContent = word;
  };
  return h("form", { onsubmit }, fields, problem, h("p", { class: "row" }, button, more));
}

/** Opens a dialog. `fill` gets a function that shows something else in it, and one that closes it. */
export function dialog(title, fill) {
  const heading = h("h2", { id: "dialog-title", tabindex: "-1" }, title);
  const place = h("div");
  const element = h("dialog", { "aria-labelledby": "dialog-title" }, heading, place);
  const close = () => element.close();
  const change = (name, ...children) => {
    heading.textContent = name;
    show(place, ...children);
    heading.focus();
  };
  element.onclose = () => element.remove();
  show(place, fill(change, close));
  document.body.append(element);
  element.showModal();
  place.querySelector("input, select, button")?.focus();
  return element;
}

/** The button that leaves a dialog as it is. */
export const closing = (close, word = say("cancel")) => h("button", { type: "button", onclick: close }, word);
