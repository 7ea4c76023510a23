// The catalogue: draws the view that Python sends, and sends each edit to Python.
// Only search, sorting and scrolling run in the browser. Joined with pieces.js.

const LISTINGS = {
  loading: ["◔", "Symbols loading"],
  ready: ["●", "Symbols loaded"],
  offline: ["✕", "Symbols unknown"],
};
const COLUMNS = ["Symbol", "Base", "Quote", "Contract", "First (UTC)", "Last (UTC)"];
const [FIRST, LAST] = [4, 5];
const NO_FILES = "no files";
// Height of a row in pixels, rows drawn above and below the visible ones.
const HEIGHT = 26;
const MARGIN = 8;
// Chips to draw; the others are only counted.
const CHIPS = 12;
// Milliseconds without scrolling before the days of the visible symbols are requested.
const REST = 150;
// Chosen symbols whose days are loaded without a request.
const MOST_CHOSEN = 100;

// The rule of patterns in configurations, in any case; without * and ? a part of the symbol.
function matcher(text) {
  const sought = text.trim().toUpperCase();
  if (!/[*?]/.test(sought)) return (symbol) => symbol.toUpperCase().includes(sought);
  const parts = { "*": ".*", "?": "." };
  const escaped = [...sought].map(
    (each) => parts[each] ?? each.replace(/[\\^$.+()[\]{}|/]/, "\\$&"),
  );
  const whole = new RegExp(`^${escaped.join("")}$`, "su");
  return (symbol) => whole.test(symbol.toUpperCase());
}

function symbolTable(model, send) {
  const gridId = fresh();
  let chosen = new Set();
  let found = [];
  let feed = "";
  let active = 0;
  let anchor = 0;
  let by = 0;
  let down = false;
  let everything = false;
  let timer;

  const search = make("input", {
    type: "text",
    class: "bak-find",
    "aria-label": "Search the symbols",
    placeholder: "Search: BTC, ETHUSDT, *USDT …",
    autocomplete: "off",
    spellcheck: "false",
    "aria-controls": gridId,
    oninput: () => filter(),
    onkeydown: (event) => {
      if (event.key === "Escape") {
        search.value = "";
        filter();
      } else if (event.key === "ArrowDown") {
        event.preventDefault();
        grid.focus();
      } else if (event.key === "Enter" && found.length === 1) choose([found[0][0]], true);
    },
  });
  const only = make("input", { type: "checkbox", onchange: () => filter() });
  const count = make("span", { class: "bak-state", role: "status" });
  const all = link("", () => choose(found.map(([symbol]) => symbol), true));
  const pattern = link("", () => replace([search.value.trim().toUpperCase()]));

  const heads = COLUMNS.map((title, column) => {
    const sorting = button(title, () => sort(column), "bak-sort");
    return make("div", { role: "columnheader" }, sorting);
  });
  const head = make(
    "div",
    { class: "bak-line-of-grid bak-grid-head", role: "row" },
    make("div", { role: "columnheader", "aria-label": "Chosen" }),
    ...heads,
  );
  const body = make("div", {
    class: "bak-grid-body",
    role: "rowgroup",
    // A range of rows is chosen, and not their text.
    onmousedown: (event) => event.shiftKey && event.preventDefault(),
    onclick: (event) => {
      const index = Math.floor((event.clientY - body.getBoundingClientRect().top) / HEIGHT);
      if (!found[index]) return;
      if (event.shiftKey) choose(between(anchor, index), true);
      else toggle(index);
      mark(index);
      if (!event.shiftKey) anchor = index;
    },
  });
  const grid = make(
    "div",
    {
      id: gridId,
      class: "bak-grid",
      role: "grid",
      tabindex: "0",
      "aria-label": "Symbols of the archive",
      "aria-multiselectable": "true",
      onscroll: () => draw(),
      onkeydown: (event) => key(event),
    },
    head,
    body,
  );
  const listing = make("p", { class: "bak-state", role: "status" });
  const again = link("Try again", () => send({ do: "list" }));
  const loading = make("p", { class: "bak-state" });
  const loaded = make("span", { role: "status" });
  const loadAll = link("Load all", () => {
    everything = true;
    ask();
  });
  const stop = link("Cancel", () => {
    everything = false;
    model.send({ do: "stop" });
  });
  loading.append(loaded, " ", loadAll, stop);
  const chips = chipBox(
    search,
    CHIPS,
    (symbol) => choose([symbol], false),
    () => replace([]),
    () => {
      only.checked = true;
      filter();
    },
  );
  const children = [
    make(
      "div",
      { class: "bak-line" },
      search,
      make("label", { class: "bak-plain" }, only, "Chosen only"),
      count,
      all,
      pattern,
    ),
    grid,
    listing,
    loading,
    chips.element,
  ];

  // The cells of a row: the symbol, its parts, and its days.
  const days = () => {
    const { feed: shown, known } = model.get("dates");
    return shown === feed ? known : {};
  };
  function cells([symbol, base, quote, contract]) {
    const [first, last] = days()[symbol] ?? ["", ""];
    return [symbol, base, quote, contract, first ?? NO_FILES, last ?? NO_FILES];
  }

  // Find the symbols, in the order of a column. Those with unknown days come last.
  function filter() {
    const matches = matcher(search.value);
    const { symbols = [] } = model.get("listed");
    found = symbols.filter(([symbol]) => matches(symbol) && (!only.checked || chosen.has(symbol)));
    if (by > 0 || down) {
      const known = days();
      const value = (row) => (by < FIRST ? row[by] : (known[row[0]]?.[by - FIRST] ?? ""));
      const less = down ? 1 : -1;
      found = found
        .map((row) => [value(row), row])
        .sort(([a], [b]) => (!a - !b) || (a < b ? less : a > b ? -less : 0))
        .map(([, row]) => row);
    }
    heads.forEach((each, column) => {
      const order = column !== by ? "none" : down ? "descending" : "ascending";
      each.setAttribute("aria-sort", order);
    });
    active = Math.min(active, Math.max(found.length - 1, 0));
    body.style.height = `${found.length * HEIGHT}px`;
    grid.setAttribute("aria-rowcount", String(found.length + 1));
    count.textContent = `${formatted(found.length)} of ${formatted(symbols.length)}`;
    all.textContent = `Choose all ${formatted(found.length)}`;
    all.hidden = found.length < 2 || only.checked;
    const sought = search.value.trim().toUpperCase();
    pattern.textContent = `Choose the pattern ${sought}`;
    pattern.hidden = !/[*?]/.test(sought) || !found.length;
    draw();
  }

  function sort(column) {
    down = by === column && !down;
    by = column;
    filter();
  }

  const visibleRange = () => {
    const top = Math.floor(grid.scrollTop / HEIGHT);
    return [top, top + Math.ceil(grid.clientHeight / HEIGHT)];
  };

  // Draw the visible rows only.
  function draw() {
    const [top, bottom] = visibleRange();
    const from = Math.max(top - MARGIN, 0);
    const rows = found.slice(from, bottom + MARGIN);
    keyed(
      body,
      rows.map((row, at) => ({ row, index: from + at })),
      ({ row: [symbol] }) => symbol,
      () => {
        const parts = COLUMNS.map(() => make("div", { role: "gridcell" }));
        const mark = make("div", { role: "gridcell", class: "bak-mark", "aria-hidden": "true" });
        return make("div", { role: "row", class: "bak-line-of-grid" }, mark, ...parts);
      },
      (element, { row, index }) => {
        const on = chosen.has(row[0]);
        element.id = `${gridId}-${index}`;
        element.style.top = `${index * HEIGHT}px`;
        element.classList.toggle("bak-active", index === active);
        element.setAttribute("aria-selected", String(on));
        element.setAttribute("aria-rowindex", String(index + 2));
        element.firstChild.textContent = on ? "✓" : "";
        cells(row).forEach((text, column) => {
          const cell = element.children[column + 1];
          if (cell.textContent !== text) cell.textContent = text;
          cell.classList.toggle("bak-absent", text === NO_FILES);
          cell.title = column ? "" : text;
        });
      },
    );
    if (found.length) grid.setAttribute("aria-activedescendant", `${gridId}-${active}`);
    else grid.removeAttribute("aria-activedescendant");
    clearTimeout(timer);
    timer = setTimeout(ask, REST);
  }

  // Request the days of what is visible or chosen, and of all if that was asked for.
  let asked = "";
  function ask() {
    const { state } = model.get("dates");
    if (model.get("listed").state !== "ready" || (state === "failed" && !everything)) return;
    const known = days();
    const visible = by < FIRST ? found.slice(...visibleRange()) : [];
    const rest = everything ? found : [];
    const symbols = [
      ...visible.map(([symbol]) => symbol),
      ...[...chosen].slice(0, MOST_CHOSEN),
      ...rest.map(([symbol]) => symbol),
    ].filter((symbol) => !known[symbol]);
    const now = JSON.stringify([feed, symbols]);
    if (!symbols.length || (now === asked && state === "reading")) return;
    asked = now;
    model.send({ do: "days", symbols });
  }

  function mark(index) {
    active = Math.min(Math.max(index, 0), found.length - 1);
    const top = active * HEIGHT;
    const shown = grid.clientHeight - head.offsetHeight;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + HEIGHT > grid.scrollTop + shown) grid.scrollTop = top + HEIGHT - shown;
    draw();
  }

  const between = (a, b) =>
    found.slice(Math.min(a, b), Math.max(a, b) + 1).map(([symbol]) => symbol);

  function replace(symbols) {
    chosen = new Set(symbols);
    send({ do: "set", field: "symbols", value: symbols });
    draw();
  }

  function choose(symbols, on) {
    const changed = new Set(chosen);
    for (const symbol of symbols) on ? changed.add(symbol) : changed.delete(symbol);
    replace([...changed]);
  }

  function toggle(index) {
    const [symbol] = found[index];
    choose([symbol], !chosen.has(symbol));
  }

  function key(event) {
    const page = Math.floor(grid.clientHeight / HEIGHT) - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const ends = { Home: 0, End: found.length - 1 };
    if (event.target !== grid || !found.length) return;
    if (event.key in steps || event.key in ends) {
      const before = active;
      mark(ends[event.key] ?? active + steps[event.key]);
      if (event.shiftKey) choose(between(before, active), true);
      else anchor = active;
    } else if (event.key === " " || event.key === "Enter") toggle(active);
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      choose(found.map(([symbol]) => symbol), true);
    } else return;
    event.preventDefault();
  }

  const drawListing = redrawer(({ state, text }) => {
    const [signs, title] = LISTINGS[state];
    listing.replaceChildren(sign(signs), make("strong", {}, title), `: ${text} `);
    listing.classList.toggle("bak-wrong", state === "offline");
    if (state === "offline") listing.append(again);
  });
  const drawDays = () => {
    const { state, text } = model.get("dates");
    const { symbols = [] } = model.get("listed");
    const known = symbols.filter(([symbol]) => days()[symbol]).length;
    const words = {
      reading: `◔ Loading first and last days: ${text}`,
      failed: `✕ First and last days are not loaded: ${text}`,
    };
    const rest = `First and last days of ${formatted(known)} of ${formatted(symbols.length)} are loaded`;
    loaded.textContent = words[state] ?? `${rest}; those of visible symbols follow.`;
    if (known === symbols.length) loaded.textContent = `${rest}.`;
    loading.hidden = !symbols.length;
    stop.hidden = state !== "reading";
    loadAll.hidden = state === "reading" || known === symbols.length;
    loadAll.textContent = state === "failed" ? "Try again" : "Load all";
  };

  const part = row("Symbols", "symbols", children, (view) => {
    chosen = new Set(view.chosen);
    chips.draw(view.chosen);
    if (only.checked) filter();
    else draw();
  });
  return {
    ...part,
    listed() {
      const { feed: shown, state, text, symbols } = model.get("listed");
      if (!state) return;
      if (shown !== feed) {
        feed = shown;
        everything = false;
        grid.scrollTop = active = anchor = 0;
      }
      drawListing({ state, text });
      grid.hidden = !symbols.length;
      // As high as the table if it is short, whatever is searched.
      grid.style.height = `calc(${(symbols.length + 1) * HEIGHT}px + 2px)`;
      filter();
      drawDays();
    },
    dated() {
      if (by < FIRST) draw();
      else filter();
      drawDays();
    },
  };
}

function intervals(send) {
  const kind = { type: "radio", name: fresh() };
  const set = (item) => () => send({ do: "interval", value: item.value });
  const ticks = make("div", { class: "bak-ticks" });
  const body = row("Interval", "intervals", [ticks], (view) => {
    body.element.hidden = !view.intervals.length;
    keyed(
      ticks,
      view.intervals,
      (item) => item.value,
      (item) => tick(item.value, "", set(item), kind),
      (element, item) => (element.querySelector("input").checked = item.on),
    );
  });
  return body;
}

function render(context) {
  const { model } = context;
  return assemble(context, "What the archive has", (send) => {
    const table = symbolTable(model, send);
    const parts = [
      markets("Market", send, { type: "radio", name: fresh() }),
      dataTypes("Data type", send, { type: "radio", name: fresh() }),
      intervals(send),
      table,
      days(send),
      folder(send),
      nextCell("Collects the chosen symbols:", "Choose symbols: then this shows the code that collects them."),
    ];
    const listeners = { "change:listed": table.listed, "change:dates": table.dated };
    return { parts, listeners, drawn: table.listed };
  });
}

export default { render };
