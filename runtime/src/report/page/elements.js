// Elements of the page, and numbers in words. Text from the model becomes text of the page, never
// markup: nothing here takes HTML.

// An element with these attributes and contents. An attribute that begins with "on" is a listener;
// one that is null or false is left out. Contents are texts, elements, or lists of these.
function element(name, attributes = {}, ...contents) {
  return filled(document.createElement(name), attributes, contents);
}

// The same of SVG.
function drawing(name, attributes = {}, ...contents) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  return filled(made, attributes, contents);
}

function filled(made, attributes, contents) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== false) made.setAttribute(key, value);
  }
  made.append(...contents.flat(Infinity).filter((part) => part !== null));
  return made;
}

// Something that can be opened, whose contents are made when it is opened for the first time.
// `contents` returns a list.
function openable(attributes, summary, contents) {
  const made = element("details", attributes, element("summary", {}, summary));
  made.fill = () => {
    if (made.isFilled) return;
    made.isFilled = true;
    made.append(...contents().flat(Infinity).filter((part) => part !== null));
  };
  made.addEventListener("toggle", () => made.open && made.fill());
  if (made.open) made.fill();
  return made;
}

// Opens it at once, not when the browser comes to tell of it.
function unfold(made) {
  made.fill();
  made.open = true;
  return made;
}

// A list that is shown a part at a time. `make` returns the element of an item.
function pieces(items, make, size = 100) {
  const list = element("div", { class: "pieces" });
  let shown = 0;
  const more = element("button", { type: "button", class: "more", onclick: grow });
  function grow() {
    const until = Math.min(shown + size, items.length);
    const added = items.slice(shown, until).map(make);
    list.append(...added);
    const isFirst = shown === 0;
    shown = until;
    more.textContent = `Show ${Math.min(size, items.length - shown)} more of ${items.length}`;
    more.hidden = shown === items.length;
    // Whoever asked for more goes on there with the keyboard.
    if (!isFirst) (added[0]?.querySelector("summary, button") ?? added[0])?.focus();
  }
  grow();
  return [list, more];
}

// A table whose first row is `head`. Cells are contents of elements; numbers stand to the right.
// Of very many rows it has the first ones.
function table(head, rows, caption = null) {
  const most = 500;
  if (rows.length > most) {
    return [table(head, rows.slice(0, most), caption), note(`and ${digits(rows.length - most)} more`)];
  }
  const isNumber = head.map((title) => title.startsWith("#"));
  const cell = (kind) => (content, column) =>
    element(kind, { class: isNumber[column] ? "number" : null, scope: kind === "th" ? "col" : null },
      content);
  const titles = head.map((title) => title.replace(/^#/, ""));
  return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption ?? titles.join(", ") },
    element("table", {},
      element("thead", {}, element("tr", {}, titles.map(cell("th")))),
      element("tbody", {}, rows.map((row) => element("tr", {}, row.map(cell("td")))))));
}

// Names and values, side by side. Pairs without a value are left out.
function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined);
  return element("dl", {}, known.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

// A button that looks like a link, as it leads to something on this page.
function link(text, go) {
  return element("button", { type: "button", class: "link", onclick: go }, text);
}

function code(text) {
  return element("code", {}, text);
}

function note(...contents) {
  return element("p", { class: "note" }, ...contents);
}

// A number with four digits; what is no number is a dash, as JSON has none.
function digits(number) {
  if (number === null || number === undefined) return "–";
  if (Number.isInteger(number) && Math.abs(number) < 1e15) return number.toLocaleString("en");
  const size = Math.abs(number);
  if (size >= 1e-3 && size < 1e6) return String(Number(number.toPrecision(4)));
  return number.toExponential(3);
}

function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; count >= 1024 && unit < units.length - 1; unit += 1) count /= 1024;
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

function percent(share) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`;
}

function plural(count, noun) {
  return `${digits(count)} ${noun}${count === 1 ? "" : "s"}`;
}
