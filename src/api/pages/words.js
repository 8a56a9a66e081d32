// Both languages, and how numbers and times are said in them.

const kept = "lanrage-language";

/** `0` is English, `1` is German: the column of a table of words. */
export let language = Number((recall(localStorage, kept) ?? navigator.language).startsWith("de"));

/** What a browser keeps under a name; nothing where it may keep nothing. */
export function recall(storage, name) {
  try {
    return storage.getItem(name);
  } catch {
    return null;
  }
}

/** Keeps it; without a text, forgets it. */
export function keep(storage, name, text) {
  try {
    if (text == null) storage.removeItem(name);
    else storage.setItem(name, text);
  } catch {
    // It then lasts as long as the page.
  }
}

/** The language, in the way of the reader's country if it speaks it. */
const locale = () => {
  const plain = ["en", "de"][language];
  return navigator.language.startsWith(plain) ? navigator.language : plain;
};

/** Speaks the other language from now on. */
export function changeLanguage() {
  language = 1 - language;
  keep(localStorage, kept, locale());
  mark();
}

const mark = () => (document.documentElement.lang = ["en", "de"][language]);
mark();

/** A function that says the words of a table. Names in braces stand for values; no name can turn its line around. */
export function speaker(table) {
  return (key, values) =>
    table[key][language].replace(/\{(\w+)\}/g, (_, name) =>
      typeof values[name] === "number" ? number(values[name]) : `\u2068${values[name]}\u2069`,
    );
}

const number = (value) => new Intl.NumberFormat(locale()).format(value);

/** Bytes, or bytes per second, with a unit. */
export function bytes(count, each = "") {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let at = 0;
  for (; count >= 1000 && at < 4; at++) count /= 1000;
  const unit = units[at] + (each && `-per-${each}`);
  const digits = { maximumFractionDigits: count < 10 && at ? 1 : 0 };
  return new Intl.NumberFormat(locale(), { style: "unit", unit, unitDisplay: "short", ...digits }).format(count);
}

/** How far a time is from now, both in seconds. */
export function away(time, now) {
  const seconds = time - now;
  const steps = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const [size, unit] = steps.find(([size]) => Math.abs(seconds) >= size) ?? steps[3];
  return new Intl.RelativeTimeFormat(locale(), { numeric: "auto" }).format(Math.trunc(seconds / size), unit);
}

/** A time of the day, with the day. */
export function moment(time) {
  return new Intl.DateTimeFormat(locale(), { dateStyle: "short", timeStyle: "short" }).format(time * 1000);
}
