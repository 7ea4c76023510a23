// The pieces of which the form and the catalogue are built; joined with the file of each.

const LEVELS = {
  wrong: ["✕", "Wrong"],
  needed: ["○", "Still needed"],
  cannot: ["⊘", "Cannot exist"],
  note: ["ℹ", "Note"],
};
// Milliseconds without a key press before typed text is sent.
const PAUSE = 250;

// Several widgets may share a page, and ids must be unique.
const module = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
let ids = 0;
const fresh = () => `bak-${module}-${++ids}`;

// Create an element. Properties that begin with "on" add listeners; text is never HTML.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (["checked", "value", "disabled", "hidden", "open"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const sign = (text) => make("span", { class: "bak-sign", "aria-hidden": "true" }, text);
const formatted = (count) => count.toLocaleString("en");
const button = (text, onclick, look = "bak-button") =>
  make("button", { type: "button", class: look, onclick }, text);
const link = (text, onclick) => button(text, onclick, "bak-link");

// Return the element that has the focus, also where the widget is in a shadow tree.
const focusedIn = (element) => element.getRootNode().activeElement;

// Draw only changed data, so that the focus does not move.
function redrawer(draw) {
  let before;
  return (data) => {
    const now = JSON.stringify(data);
    if (now === before) return;
    before = now;
    draw(data);
  };
}

// Keep one child for each item, by key, and update existing children in place.
function keyed(parent, items, key, create, update) {
  const present = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const child = present.get(key(item)) ?? create(item);
    child.dataset.key = key(item);
    update(child, item);
    return child;
  });
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((child, index) => {
    const current = parent.children[index] ?? null;
    if (current !== child) parent.insertBefore(child, current);
  });
}

// The messages of a field.
function messages(field) {
  const id = fresh();
  const element = make("div", { id, class: "bak-messages", "aria-live": "polite" });
  const refresh = redrawer((found) => {
    element.replaceChildren(
      ...found.map(({ level, text }) =>
        make(
          "p",
          { class: `bak-message bak-${level}` },
          sign(LEVELS[level][0]),
          make("strong", {}, `${LEVELS[level][1]}: `),
          text,
        ),
      ),
    );
  });
  return { id, element, refresh: (view) => refresh(view.messages[field] ?? []) };
}

// A labelled row of the form, with the messages of its field below its children.
function row(title, field, children, update = () => {}) {
  const label = fresh();
  const below = messages(field);
  const element = make(
    "div",
    { class: "bak-row", role: "group", "aria-labelledby": label, "aria-describedby": below.id },
    make("div", { class: "bak-label", id: label }, title),
    make("div", { class: "bak-field" }, ...children, below.element),
  );
  const refresh = (view) => {
    below.refresh(view);
    update(view);
  };
  return { element, refresh };
}

// A checkbox, or radio button, that looks like a chip. A tick and a frame show its state, not only a colour.
function tick(text, about, onchange, kind = { type: "checkbox" }) {
  const box = make("input", { ...kind, onchange: () => onchange(box.checked) });
  const small = make("small", {}, about);
  return make("label", { class: "bak-tick" }, box, make("span", {}, text, small));
}

// A text field that sends typed text after a pause, and is not overwritten while focused.
function typed(properties, send) {
  let timer;
  let last;
  const flush = () => {
    clearTimeout(timer);
    if (input.value !== last) send((last = input.value));
  };
  const input = make("input", {
    autocomplete: "off",
    spellcheck: "false",
    ...properties,
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(flush, PAUSE);
    },
    onchange: flush,
  });
  input.show = (value) => {
    if (focusedIn(input) === input) return;
    input.value = last = value;
  };
  return input;
}

// One box for each option of a field.
function boxes(title, field, look, send, update = () => {}, kind = undefined) {
  const ticks = make("div", { class: look });
  return row(title, field, [ticks], (view) =>
    keyed(
      ticks,
      view[field],
      (item) => item.value,
      (item) =>
        tick(item.title ?? item.value, "", (on) =>
          send({ do: "check", field, value: item.value, on }),
          kind,
        ),
      (element, item) => {
        element.querySelector("input").checked = item.on;
        update(element, item);
      },
    ),
  );
}

function days(send) {
  const group = fresh();
  const set = (value) => send({ do: "set", field: "date_range", value });
  const day = (label) => {
    const id = fresh();
    const input = typed({ id, type: "date" }, () => set({ start: from.input.value, end: to.input.value }));
    return { input, element: make("label", { for: id, class: "bak-day" }, `${label} `, input) };
  };
  const from = day("from");
  const to = day("to");
  let shortcuts = {};
  const range = make("input", {
    type: "radio",
    name: group,
    onchange: () => set(shortcuts["Last 7 days"]),
  });
  const yesterday = make("input", { type: "radio", name: group, onchange: () => set(null) });
  const quick = make("div", { class: "bak-quick" });
  const count = make("p", { class: "bak-state" });
  const drawQuick = redrawer((found) => {
    const links = Object.entries(found).map(([title, value]) => link(title, () => set(value)));
    quick.replaceChildren(...links);
  });
  const children = [
    make(
      "div",
      { class: "bak-line" },
      make("label", { class: "bak-plain" }, range, "Fixed"),
      from.element,
      to.element,
      quick,
    ),
    make("label", { class: "bak-plain" }, yesterday, "Always yesterday (UTC), relative to the day of the run"),
    count,
  ];
  return row("Days", "date_range", children, (view) => {
    shortcuts = view.shortcuts;
    drawQuick(shortcuts);
    const chosen = view.fields.date_range ?? null;
    range.checked = chosen !== null;
    yesterday.checked = chosen === null;
    for (const [part, name] of [[from, "start"], [to, "end"]]) {
      part.input.disabled = chosen === null;
      if (chosen) part.input.show(chosen[name]);
    }
    count.textContent = view.days;
    count.hidden = !view.days;
  });
}

// The chosen symbols, each with a button that removes it; more than `most` are only counted.
function chipBox(elsewhere, most, remove, clear, all) {
  const chips = make("div", { class: "bak-chips" });
  const more = link("", all);
  const none = link("Remove all", clear);
  const chip = (symbol) => {
    const title = `Remove ${symbol}`;
    const onclick = () => remove(symbol);
    const cross = make("button", { type: "button", "aria-label": title, title, onclick }, "✕");
    return make("span", { class: "bak-chip" }, symbol, cross);
  };
  const draw = redrawer((names) => {
    const shown = names.slice(0, most);
    more.textContent = `… and ${formatted(names.length - shown.length)} more`;
    more.hidden = names.length <= most;
    none.hidden = names.length < 2;
    const focused = [...chips.children].indexOf(focusedIn(chips)?.closest(".bak-chip"));
    chips.replaceChildren(...shown.map(chip), more, none);
    // After a removal by key, focus the next chip.
    if (focused < 0) return;
    const next = chips.children[Math.min(focused, shown.length - 1)];
    (next?.querySelector("button") ?? elsewhere).focus();
  });
  return { element: chips, draw };
}

// Copy a text; where the browser does not allow it, select the element that shows it.
async function copy(text, element, state, done) {
  try {
    await navigator.clipboard.writeText(text);
    state.replaceChildren(sign("✓"), done);
  } catch {
    element.focus();
    window.getSelection().selectAllChildren(element);
    element.select?.();
    state.replaceChildren(sign("ℹ"), "Selected: press Ctrl+C or ⌘C to copy it");
  }
}

// The code to run in the next cell, with a button that copies it.
function nextCell(about, before = about) {
  const code = make("pre", { class: "bak-code", tabindex: "0", "aria-label": "Python code" });
  const state = make("span", { class: "bak-state", role: "status" });
  const copying = button("Copy", () => copy(code.textContent, code, state, "Copied"));
  const words = make("p", { class: "bak-state" });
  const line = make("div", { class: "bak-line" }, code, copying, state);
  return row("Next cell", "next", [words, line], (view) => {
    if (code.textContent !== view.next) state.replaceChildren();
    code.textContent = view.next;
    words.textContent = view.next ? about : before;
    line.hidden = !view.next;
  });
}

function markets(title, send, kind) {
  return boxes(title, "markets", "bak-ticks", send, undefined, kind);
}

function dataTypes(title, send, kind) {
  const update = (element, item) => {
    element.classList.toggle("bak-impossible", !item.possible);
    const about = [item.about, item.hint && `(${item.hint})`].filter(Boolean).join(" ");
    // A date stays on one line.
    const files = (item.files ?? "").replaceAll("-", "\u2011");
    element.querySelector("small").replaceChildren(about, make("span", {}, files));
  };
  return boxes(title, "data_types", "bak-cards", send, update, kind);
}

function folder(send) {
  const id = fresh();
  const input = typed({ id, type: "text", class: "bak-wide" }, (value) =>
    send({ do: "set", field: "output_directory", value }),
  );
  const label = make("label", { for: id }, "Output folder");
  return row(label, "output_directory", [input], (view) =>
    input.show(view.fields.output_directory ?? ""),
  );
}

// ---------------------------------------------------------------------------------------

// Draw a widget of parts, and connect it to Python; return a function that disconnects it.
function assemble({ model, el }, title, build) {
  const widgetId = fresh();
  let turn = 0;
  const send = (message) => model.send({ ...message, turn: [widgetId, ++turn] });
  const { parts, listeners, drawn } = build(send);
  const archive = make("small", {});
  const widget = make(
    "div",
    // The shortcuts of the notebook do not apply to keys pressed in the widget.
    { class: "bak-form", role: "form", "aria-label": title, "data-lm-suppress-shortcuts": "true" },
    make("div", { class: "bak-head" }, make("strong", {}, title), archive),
    ...parts.map((part) => part.element),
  );
  el.append(widget);
  const refresh = () => {
    const view = model.get("view");
    const [sender, answered] = view.answered ?? [];
    // The view is older than the latest edit, whose answer follows.
    if (sender === widgetId && answered < turn) return;
    archive.textContent = view.archive ? `from ${view.archive}` : "";
    for (const part of parts) part.refresh(view);
  };
  refresh();
  drawn();
  const all = Object.entries({ "change:view": refresh, ...listeners });
  for (const [event, listener] of all) model.on(event, listener);
  return () => {
    for (const [event, listener] of all) model.off(event, listener);
  };
}
