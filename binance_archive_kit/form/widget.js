// The form of ConfigForm: draws the view that Python sends, and sends each edit to Python.
// All decisions are made in Python; only the search for symbols runs in the browser.
// Joined with pieces.js.

const STATES = {
  open: ["○", "Not complete"],
  held: ["◔", "Not planned"],
  asking: ["◔", "Planning"],
  ready: ["●", "Ready"],
  empty: ["⊘", "Nothing found"],
  full: ["✕", "Too large"],
  failed: ["✕", "No plan"],
};
const LISTED = {
  loading: ["◔", "Symbols loading"],
  ready: ["●", "Symbols loaded"],
  offline: ["○", "Symbols unknown"],
  off: ["○", "Symbols not listed"],
};
const FILES = [
  ["daily", "Daily", "one file a day"],
  ["monthly", "Monthly", "one file a month"],
  ["auto", "Automatic", "monthly files for whole months if published, daily files elsewhere"],
];
// Matches and chips to draw; the others are only counted.
const MATCHES = 60;
const CHIPS = 40;

// ---------------------------------------------------------------------------------------
// Symbols: search while typing, choose by key or mouse, or paste a list

function rank(symbol, sought) {
  if (symbol === sought) return 0;
  return (symbol.startsWith(sought) ? 1 : 3) + (/(USDT|USD_PERP)$/.test(symbol) ? 0 : 1);
}

function search(symbols, text) {
  const sought = text.trim().toUpperCase();
  if (!sought) return symbols;
  return symbols
    .filter((symbol) => symbol.includes(sought))
    .map((symbol) => [rank(symbol, sought), symbol.length, symbol])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1] || (a[2] < b[2] ? -1 : 1))
    .map(([, , symbol]) => symbol);
}

function symbolField(market, title, known, send) {
  const listId = fresh();
  const inputId = fresh();
  const areaId = fresh();
  const chosen = new Set();
  let options = [];
  let active = -1;

  const input = make("input", {
    id: inputId,
    type: "text",
    role: "combobox",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "Search: BTC, ETHUSDT, *USDT …",
    "aria-expanded": "false",
    "aria-controls": listId,
    "aria-autocomplete": "list",
    oninput: () => open(),
    onfocus: () => open(),
    onclick: () => open(),
    onblur: () => close(),
    onkeydown: (event) => key(event),
    onpaste: (event) => {
      const text = event.clipboardData.getData("text");
      if (!/[\s,;]/.test(text.trim())) return;
      event.preventDefault();
      send({ do: "add", market, text });
    },
  });
  const list = make("div", {
    id: listId,
    class: "bak-options",
    role: "listbox",
    "aria-label": `Symbols of the archive${title ? `, ${title}` : ""}`,
    "aria-multiselectable": "true",
  });
  const all = link("", () => {
    send({ do: "add", market, text: matches().join(" ") });
    input.value = "";
    close();
  });
  const count = make("span", {});
  // Without the focus in the input, the list closes before the click.
  const popup = make(
    "div",
    { class: "bak-popup", hidden: true, onmousedown: (event) => event.preventDefault() },
    list,
    make("div", { class: "bak-popup-foot" }, count, all),
  );

  function matches() {
    return search(known(market).names, input.value);
  }

  function open() {
    const found = matches();
    const sought = input.value.trim().toUpperCase();
    const shown = found.slice(0, MATCHES).map((symbol) => ({ symbol, text: symbol }));
    if (sought && found[0] !== sought) {
      shown.push({ symbol: sought, text: `Add ${sought} as typed` });
    }
    options = shown;
    active = shown.length && sought ? 0 : -1;
    list.replaceChildren(
      ...shown.map(({ symbol, text }, index) =>
        make(
          "div",
          {
            id: `${listId}-${index}`,
            class: "bak-option",
            role: "option",
            "aria-selected": String(chosen.has(symbol)),
            onclick: () => pick(index),
          },
          sign(chosen.has(symbol) ? "✓" : ""),
          make("span", {}, text),
          make("small", {}, known(market).marketsOf(symbol)),
        ),
      ),
    );
    count.textContent =
      found.length > MATCHES
        ? `${MATCHES} of ${formatted(found.length)} shown`
        : `${formatted(found.length)} found`;
    all.textContent = `Add all ${formatted(found.length)}`;
    all.hidden = found.length < 2;
    popup.hidden = shown.length === 0;
    input.setAttribute("aria-expanded", String(!popup.hidden));
    mark(active);
  }

  function close() {
    popup.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(index) {
    list.children[active]?.classList.remove("bak-active");
    active = index;
    const option = list.children[index];
    if (!option) return input.removeAttribute("aria-activedescendant");
    option.classList.add("bak-active");
    input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  // A click toggles a symbol; a typed symbol is always added.
  function pick(index, typed = false) {
    const { symbol } = options[index];
    input.value = "";
    if (!chosen.has(symbol)) {
      send({ do: "add", market, text: symbol });
      chosen.add(symbol);
    } else if (!typed) {
      send({ do: "remove", market, text: symbol });
      chosen.delete(symbol);
    }
    open();
  }

  function key(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (popup.hidden) open();
      const step = event.key === "ArrowDown" ? 1 : -1;
      mark((active + step + options.length) % options.length);
    } else if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      if (active >= 0) pick(active, true);
      else if (input.value.trim()) {
        send({ do: "add", market, text: input.value });
        input.value = "";
        open();
      }
    } else if (event.key === "Escape" && !popup.hidden) {
      event.stopPropagation();
      close();
    }
  }

  const chips = chipBox(
    input,
    CHIPS,
    (symbol) => send({ do: "remove", market, text: symbol }),
    () => send({ do: "replace", market, text: "" }),
    () => edit(true),
  );
  const area = make("textarea", { id: areaId, rows: "4", spellcheck: "false" });
  const editor = make(
    "div",
    { class: "bak-editor", hidden: true },
    make("label", { for: areaId }, "All symbols, separated by commas, spaces or lines"),
    area,
    button("Use this list", () => {
      send({ do: "replace", market, text: area.value });
      edit(false);
    }),
    button("Cancel", () => edit(false)),
  );
  function edit(on) {
    editor.hidden = !on;
    if (!on) return;
    area.value = [...chosen].join("\n");
    area.focus();
  }
  const element = make(
    "div",
    { class: "bak-symbols" },
    make("label", { for: inputId, class: "bak-sublabel" }, title || "Add a symbol"),
    make("div", { class: "bak-search" }, input, popup),
    button("Paste a list …", () => edit(editor.hidden)),
    chips.element,
    editor,
  );

  return {
    element,
    refresh(names) {
      chosen.clear();
      for (const name of names) chosen.add(name);
      chips.draw(names);
      if (!popup.hidden && focusedIn(input) === input) {
        [...list.children].forEach((option, index) => {
          const on = chosen.has(options[index].symbol);
          option.setAttribute("aria-selected", String(on));
          option.firstChild.textContent = on ? "✓" : "";
        });
      }
    },
    listed() {
      if (!popup.hidden) open();
    },
  };
}

function symbols(model, send) {
  // The names of each market, and of all markets; the titles of the markets of each name.
  let index = new Map();
  let titlesOf = new Map();
  let several = false;
  function reindex() {
    const { symbols: byMarket = {} } = model.get("listed");
    const titles = model.get("view").titles;
    titlesOf = new Map();
    for (const [market, names] of Object.entries(byMarket)) {
      for (const name of names) titlesOf.set(name, [...(titlesOf.get(name) ?? []), titles[market]]);
    }
    several = Object.keys(byMarket).length > 1;
    index = new Map(Object.entries(byMarket));
    index.set("", [...titlesOf.keys()].sort());
  }
  const known = (market) => ({
    names: index.get(market ?? "") ?? [],
    marketsOf: (symbol) => (several && !market ? (titlesOf.get(symbol) ?? []).join(", ") : ""),
  });

  const state = make("p", { class: "bak-state", role: "status" });
  const retry = link("Ask again", () => send({ do: "list" }));
  const share = make("input", {
    type: "checkbox",
    onchange: () => send({ do: "share", on: !share.checked }),
  });
  const apart = make(
    "label",
    { class: "bak-plain" },
    share,
    "Different symbols for each market",
  );
  const fields = make("div", {});
  const parts = new Map();
  const body = row("Symbols", "symbols", [fields, apart, state], (view) => {
    const chosen = view.fields.symbols ?? [];
    const shared = Array.isArray(chosen);
    const on = view.markets.filter((market) => market.on).map((market) => market.value);
    share.checked = !shared;
    apart.hidden = shared && on.length < 2;
    const shown = shared ? [""] : [...new Set([...on, ...Object.keys(chosen)])];
    keyed(
      fields,
      shown,
      (market) => market,
      (market) => {
        const title = market && view.titles[market];
        const part = symbolField(market || null, title, known, send);
        parts.set(market, part);
        return part.element;
      },
      (_, market) => parts.get(market).refresh(shared ? chosen : (chosen[market] ?? [])),
    );
  });
  const drawState = redrawer(({ name, text }) => {
    const [mark, title] = LISTED[name];
    state.replaceChildren(sign(mark), make("strong", {}, title), `: ${text} `);
    if (name === "offline") state.append(retry);
  });

  return {
    ...body,
    listed() {
      reindex();
      const { state: name, text } = model.get("listed");
      if (name) drawState({ name, text });
      for (const part of parts.values()) part.listed();
    },
  };
}

// ---------------------------------------------------------------------------------------
// The other fields

function intervals(send) {
  const rows = make("div", {});
  const body = row("Intervals", "intervals", [rows], (view) => {
    body.element.hidden = view.intervals.length === 0;
    keyed(
      rows,
      view.intervals,
      (item) => item.data_type,
      (item) => {
        const label = fresh();
        return make(
          "div",
          { class: "bak-intervals", role: "group", "aria-labelledby": label },
          make("span", { id: label, class: "bak-sublabel" }, item.data_type),
          make("div", { class: "bak-ticks" }),
          make("small", {}),
        );
      },
      (element, item) => {
        element.querySelector(":scope > small").textContent = item.hint;
        const every = { value: "", on: item.all, possible: true };
        keyed(
          element.querySelector(".bak-ticks"),
          [every, ...item.words],
          (word) => word.value,
          (word) =>
            tick(word.value || "all", "", (on) =>
              send({
                do: "interval",
                data_type: item.data_type,
                value: word.value || null,
                on,
              }),
            ),
          (box, word) => {
            box.querySelector("input").checked = word.on;
            box.classList.toggle("bak-impossible", !word.possible);
            box.querySelector("small").textContent = word.possible ? "" : "cannot exist";
          },
        );
      },
    );
  });
  return body;
}

function files(send) {
  const group = fresh();
  const boxes = FILES.map(([value, title, about]) => {
    const box = make("input", {
      type: "radio",
      name: group,
      value,
      onchange: () => send({ do: "set", field: "partition", value }),
    });
    return [value, box, make("label", { class: "bak-plain" }, box, title, make("small", {}, about))];
  });
  const labels = boxes.map(([, , label]) => label);
  return row("Files", "partition", labels, (view) => {
    const chosen = view.fields.partition ?? "daily";
    for (const [value, box] of boxes) box.checked = value === chosen;
  });
}

function engine(send) {
  const rows = make("div", { class: "bak-options-grid" });
  const changed = make("span", { class: "bak-state" });
  const drawer = make(
    "details",
    { class: "bak-engine" },
    make("summary", {}, "Engine options ", changed),
    rows,
  );
  const notes = new Map();
  return {
    element: drawer,
    refresh(view) {
      const count = view.engine.filter((option) => option.changed).length;
      changed.textContent = count ? `${count} changed` : "defaults";
      if (view.engine.some((option) => view.invalid.includes(option.name))) drawer.open = true;
      keyed(
        rows,
        view.engine,
        (option) => option.name,
        (option) => {
          const note = messages(option.name);
          notes.set(option.name, note);
          const set = (value) => send({ do: "set", field: option.name, value });
          if (option.kind === "flag") {
            const box = make("input", { type: "checkbox", onchange: () => set(box.checked) });
            const label = make("label", { class: "bak-plain" }, box, option.label, make("small", {}, option.about));
            return make("div", { class: "bak-option-row" }, label, note.element);
          }
          const id = fresh();
          const wide = option.kind === "text" || option.kind === "words";
          return make(
            "div",
            { class: "bak-option-row" },
            make("label", { for: id }, option.label, make("small", {}, option.about)),
            typed(
              { id, type: "text", inputmode: wide ? "text" : "decimal", class: wide ? "bak-wide" : "bak-short", "aria-describedby": note.id },
              set,
            ),
            note.element,
          );
        },
        (element, option) => {
          const input = element.querySelector("input");
          if (option.kind === "flag") input.checked = option.value;
          else input.show(option.value);
          notes.get(option.name).refresh(view);
        },
      );
    },
  };
}

function plan(model, send) {
  const summary = make("p", { class: "bak-summary", role: "status" });
  const tables = make("div", { class: "bak-plan" });
  const ask = button("", () => send({ do: "plan" }));
  return {
    ...row("Plan", "", [summary, tables, ask]),
    estimated() {
      const { state, text, html } = model.get("estimate");
      if (!state) return;
      const [mark, title] = STATES[state];
      summary.className = `bak-summary bak-is-${state}`;
      summary.replaceChildren(sign(mark), make("strong", {}, `${title}: `), text);
      ask.hidden = ["open", "asking"].includes(state);
      ask.textContent = state === "held" ? "Ask the archive now" : "Ask again";
      tables.classList.toggle("bak-old", state === "asking");
      // The HTML of the plan, as in the output of a cell; Python has escaped it.
      if (html || state !== "asking") tables.innerHTML = html;
    },
  };
}

function keep(model, send) {
  const id = fresh();
  const path = make("input", { id, type: "text", value: "config.json", spellcheck: "false" });
  const state = make("p", { class: "bak-state", role: "status" });
  const text = make("textarea", { class: "bak-text", readonly: true, rows: "10", spellcheck: "false" });
  const title = make("strong", {});
  const shown = make(
    "div",
    { class: "bak-shown", hidden: true },
    title,
    link("Close", () => (shown.hidden = true)),
    text,
  );
  let sure = false;
  const write = button("Save", () => send({ do: "save", path: path.value, sure }));
  path.addEventListener("input", () => unsure(false));
  function unsure(on) {
    sure = on;
    write.textContent = on ? "Replace the file" : "Save";
  }
  const buttons = make(
    "div",
    { class: "bak-line" },
    button("Copy as Python", () => send({ do: "copy", as: "python" })),
    button("Copy as JSON", () => send({ do: "copy", as: "json" })),
    make("label", { for: id, class: "bak-day" }, "JSON file ", path),
    write,
    button("Load", () => send({ do: "load", path: path.value })),
  );
  const show = (mark, ...words) => state.replaceChildren(sign(mark), ...words);
  return {
    ...row("Save or copy", "keep", [buttons, state, shown]),
    replied() {
      const reply = model.get("reply");
      unsure(Boolean(reply.unsure));
      if (reply.error) show("✕", make("strong", {}, "Not done: "), reply.error);
      else if (reply.unsure) show("✕", make("strong", {}, "Not saved: "), reply.unsure);
      else if (reply.done) show("✓", reply.done);
      else if (reply.copy) {
        const language = { python: "Python", json: "JSON" }[reply.copy];
        title.textContent = `${language} `;
        text.value = reply.text;
        text.setAttribute("aria-label", `The configuration as ${language}`);
        shown.hidden = false;
        copy(reply.text, text, state, `Copied as ${language}`);
      }
    },
  };
}

// ---------------------------------------------------------------------------------------

function render(context) {
  const { model } = context;
  return assemble(context, "What to collect", (send) => {
    const symbolRow = symbols(model, send);
    const planRow = plan(model, send);
    const keepRow = keep(model, send);
    const parts = [
      markets("Markets", send), dataTypes("Data types", send), intervals(send), symbolRow,
      days(send), files(send), folder(send), engine(send), planRow,
      nextCell("Replace form by the name that you gave it, if it is another:"), keepRow,
    ];
    const drawn = () => {
      symbolRow.listed();
      planRow.estimated();
    };
    const listeners = {
      "change:listed": symbolRow.listed,
      "change:estimate": planRow.estimated,
      "change:reply": keepRow.replied,
    };
    return { parts, listeners, drawn };
  });
}

export default { render };
