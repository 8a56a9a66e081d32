// The part of LuCI's interface in the browser that our pages use, with its manners where they matter: a lone text is HTML,
// an array is not. What the router does is asked of the test's server.
const TRANSLATED = {};
const _ = (text) => TRANSLATED[text] || text;

const dom = {
  append(node, children) {
    if (Array.isArray(children)) for (const child of children) node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    else if (children instanceof Node) node.append(children);
    else if (children !== null && children !== undefined) node.innerHTML = String(children);
  },
  content(node, children) {
    node.replaceChildren();
    dom.append(node, children);
  },
};

function E(tag, attributes, children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  dom.append(node, children);
  return node;
}

const post = async (path, body) => {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  if (answer.status === 403) throw new Error("Permission denied");
  return answer.json();
};

const ui = {
  showModal(title, children) {
    const modal = document.querySelector("#modal");
    modal.hidden = false;
    dom.content(modal, [E("p", {}, title)]);
    dom.append(modal, children);
    return modal;
  },
  hideModal() {
    document.querySelector("#modal").hidden = true;
    document.querySelector("#modal").replaceChildren();
  },
  addNotification: (title, children) => document.querySelector("#notes").append(...[].concat(children)),
  createHandlerFn: (owner, name, ...rest) => (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    return Promise.resolve(owner[name](...rest, event)).finally(() => (button.disabled = false));
  },
};

const stored = {};
const uci = {
  load: async (config) => (stored[config] = await post("/uci", config)),
  get: (config, section, option) => (option ? stored[config]?.[section]?.[option] : stored[config]?.[section]),
  add: (config, type, section) => (stored[config][section] = {}),
};

// Fields as LuCI draws them: a title that labels, the control, what it means.
class Field {
  constructor(kind, section, name, title, help) {
    Object.assign(this, { kind, section, name, title, help, choices: [] });
  }
  value(key, text) {
    this.choices.push([key, text]);
  }
  render(config) {
    const id = `cbid.${config}.${this.section}.${this.name}`;
    const value = uci.get(config, this.ucisection ?? this.section, this.ucioption ?? this.name) ?? this.default ?? "";
    const input = this.kind === "ListValue" ? E("select", { id }, this.choices.map(([key, text]) => E("option", { value: key }, [text])))
      : E("input", { id, type: this.kind === "Flag" ? "checkbox" : this.password ? "password" : "text", placeholder: this.placeholder, value });
    const problem = E("div", { role: "alert" }, []);
    input.addEventListener("input", () => {
      const said = this.validate?.(this.section, input.value) ?? true;
      problem.textContent = said === true ? "" : said;
    });
    return E("div", { class: "cbi-value" }, [E("label", { class: "cbi-value-title", for: id }, [this.title]),
      E("div", { class: "cbi-value-field" }, [input, problem, E("div", { class: "cbi-value-description" }, [this.help])])]);
  }
}

const form = { NamedSection: "NamedSection", Flag: "Flag", Value: "Value", ListValue: "ListValue" };
form.Map = class {
  constructor(config, title, help) {
    Object.assign(this, { config, title, help, sections: [] });
  }
  section(kind, section) {
    const tabs = [];
    const fields = [];
    const option = (kind, name, title, help) => {
      const field = new Field(kind, section, name, title, help);
      fields.push(field);
      return field;
    };
    this.sections.push({ tabs, fields });
    return { option, tab: (name, title) => tabs.push([name, title]), taboption: (tab, ...rest) => Object.assign(option(...rest), { tab }) };
  }
  async render() {
    await uci.load(this.config);
    const nodes = this.sections.flatMap(({ tabs, fields }) => {
      if (!tabs.length) return fields.map((field) => field.render(this.config));
      const panes = tabs.map(([name]) => E("div", { class: "pane", hidden: name === tabs[0][0] ? null : "" }, fields.filter((field) => field.tab === name).map((field) => field.render(this.config))));
      const open = (at) => panes.forEach((pane, other) => (pane.hidden = other !== at));
      return [E("p", { class: "tabs" }, tabs.map(([, title], at) => E("button", { click: () => open(at) }, [title]))), ...panes];
    });
    return E("div", { class: "cbi-map" }, [...(this.title ? [E("h2", {}, [this.title])] : []), E("p", {}, [this.help]), ...nodes]);
  }
};

const polls = [];
const modules = {
  view: { extend: (members) => members }, baseclass: { extend: (members) => members }, dom, ui, uci, form,
  poll: { add: (task) => polls.push(task) },
  fs: { exec: (command, words) => post("/exec", { command, words }) },
};

async function load(name) {
  const source = await (await fetch(`/resources/${name.replaceAll(".", "/")}.js`)).text();
  const wanted = [...source.matchAll(/^'require ([\w.]+)(?: as (\w+))?';$/gm)];
  const values = [];
  for (const [, from] of wanted) values.push((modules[from] ??= await load(from)));
  const role = await (await fetch("/role")).json();
  const L = { hasViewPermission: () => role.includes("write") };
  return new Function("E", "_", "L", ...wanted.map(([, from, as]) => as || from), source)(E, _, L, ...values);
}

async function start() {
  Object.assign(TRANSLATED, await (await fetch("/words")).json());
  const view = await load(`view.lanrage.${location.hash.slice(1)}`);
  dom.content(document.querySelector("main"), await view.render(await view.load()));
}

start().catch((error) => console.error(error.stack));
