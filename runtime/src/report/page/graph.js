// The graph as a tree of modules, with a search and a filter; nodes that are opened say all that is
// known of them.

const graph = {
  query: "",
  op: "",
  list: null,
  // The openable elements of the tree, by module path and by path of the node.
  modules: new Map(),
  nodes: new Map(),
};

function graphSection() {
  const counts = new Map();
  entry.nodes.forEach(({ raw }) => counts.set(raw.op, (counts.get(raw.op) ?? 0) + 1));
  const ops = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  const search = element("input", {
    type: "search", id: "search", placeholder: "op, module, line, name or %id",
    oninput: () => { graph.query = search.value.trim().toLowerCase(); showGraph(); },
  });
  const filter = element("select", {
    id: "op", onchange: () => { graph.op = filter.value; showGraph(); },
  },
  element("option", { value: "" }, `all ops (${entry.nodes.length})`),
  ops.map(([op, count]) => element("option", { value: op }, `${op} (${count})`)));
  graph.search = search;
  graph.filter = filter;
  graph.query = "";
  graph.op = "";
  graph.list = element("div", { class: "tree" });
  showGraph();
  return [
    element("div", { class: "tools" },
      element("label", {}, "Search", search), element("label", {}, "Op", filter)),
    graph.list,
  ];
}

function showGraph() {
  graph.modules.clear();
  graph.nodes.clear();
  if (graph.query === "" && graph.op === "") {
    graph.list.replaceChildren(...moduleContents(moduleTree()));
    return;
  }
  const found = entry.nodes.filter((node) =>
    (graph.op === "" || node.raw.op === graph.op) && matches(node, graph.query));
  graph.list.replaceChildren(
    element("p", { class: "note", role: "status" },
      found.length === 0 ? "No node is like that." : plural(found.length, "node")),
    ...pieces(found, (node) => nodeElement(node, true)));
}

function matches(node, query) {
  if (query === "") return true;
  if (node.text === undefined) {
    const { raw } = node;
    const names = raw.inputs.map((id) => valueText(node.values.get(id), id));
    const ids = [...raw.outputs].map((id) => `%${id}`);
    node.text = [raw.op, raw.module, raw.file, ...raw.fused, ...raw.types, ...names, ...ids,
      JSON.stringify(raw.attrs)].join("\n").toLowerCase();
  }
  return node.text.includes(query);
}

// Modules by the parts of their paths, in the order of their first nodes.
function moduleTree() {
  const root = { name: "", path: "", items: [], children: new Map(), count: 0, time: 0 };
  for (const node of entry.nodes) {
    if (node.parent !== null) continue;
    let at = root;
    at.count += 1;
    const parts = (node.raw.module || "").split("/").filter((part) => part !== "");
    for (const part of parts) {
      if (!at.children.has(part)) {
        const path = at.path === "" ? part : `${at.path}/${part}`;
        const child = { name: part, path, items: [], children: new Map(), count: 0, time: 0 };
        at.children.set(part, child);
        at.items.push(child);
      }
      at = at.children.get(part);
      at.count += 1;
      at.time += timeOf(node) ?? 0;
    }
    at.items.push(node);
  }
  return root;
}

function moduleContents(module) {
  const isOnly = module.items.length === 1;
  return pieces(module.items, (item) => {
    if (item.raw !== undefined) return nodeElement(item, false);
    const made = openable({ class: "module", open: isOnly },
      [element("span", { class: "name" }, item.name), " ",
        element("span", { class: "quiet" }, plural(item.count, "node"),
          item.time > 0 ? ` · ${percent(item.time)} of the time` : "")],
      () => moduleContents(item));
    graph.modules.set(item.path, made);
    return made;
  });
}

function nodeElement(node, withModule) {
  const { raw } = node;
  const time = timeOf(node);
  const made = openable({ class: "node" }, [
    code(idOf(node)), " ",
    element("span", { class: raw.optical ? "op optical" : "op" }, raw.op), " ",
    element("span", { class: "type" }, raw.types.join(", ")), " ",
    element("span", { class: "quiet" },
      [weightOf(node), withModule ? raw.module : "", raw.file, time === null ? "" : percent(time)]
        .filter((part) => part !== "").join(" · ")),
  ], () => nodeContents(node));
  graph.nodes.set(node.path, made);
  return made;
}

function nodeContents(node) {
  const { raw } = node;
  const operands = raw.inputs.map((id, index) =>
    [digits(index), code(`%${id}`), valueLink(node.values.get(id), id), code(raw.operand_types[index])]);
  const results = raw.outputs.map((id, index) =>
    [code(`%${id}`), code(raw.types[index]), node.parent === null ? usersOf(id) : "in the region"]);
  const attributes = Object.entries(raw.attrs).map(([name, value]) => [name, code(JSON.stringify(value))]);
  const inexact = approximation(raw);
  return [
    facts([
      ["module", raw.module || null],
      ["source", raw.file || null],
      ["node", node.path],
      ["approximation", inexact],
      ["time", timeWords(node)],
    ]),
    operands.length === 0 ? null : table(["#", "id", "operand", "type"], operands),
    table(["id", "result", "read by"], results),
    attributes.length === 0 ? null : table(["attribute", "value"], attributes),
    raw.fused.length === 0 ? null : [
      element("h4", {}, "Put together from"),
      partsOf(raw),
    ],
    raw.optical ? opticalContents(node) : null,
    (raw.regions ?? []).map((region) => openable({ class: "module" },
      [element("span", { class: "name" }, region.name), " ",
        element("span", { class: "quiet" }, `${plural(region.nodes.length, "node")}, results `,
          region.outputs.map((id) => `%${id}`).join(", "))],
      () => pieces(region.nodes.map((_, index) => entry.byPath.get(`${node.path}.${region.name}.${index}`)),
        (inner) => nodeElement(inner, true)))),
  ];
}

// What the node was put together from. An exporter writes a few parts; a file may have very many.
function partsOf(raw) {
  const most = 50;
  const items = raw.fused.slice(0, most).map((part) => element("li", {}, part));
  if (raw.fused.length > most) items.push(element("li", {}, `and ${raw.fused.length - most} more`));
  return element("ul", {}, items);
}

// What a value is, in words.
function valueText(value, id) {
  switch (value?.kind) {
    case "input": return `input ${value.name}`;
    case "state": return `state ${value.name}`;
    case "constant": return entry.constantName(value.tensor);
    case "given": return value.name;
    case "node": return value.node.raw.op;
    default: return `%${id}`;
  }
}

function valueLink(value, id) {
  const text = valueText(value, id);
  if (value?.kind === "constant") return link(text, () => revealConstant(value.tensor.id));
  if (value?.kind === "node") return link(text, () => revealNode(value.node));
  return text;
}

function usersOf(id) {
  const users = entry.users.get(id) ?? [];
  const shown = users.slice(0, 20).map((user) => [link(`${idOf(user)} ${user.raw.op}`, () => revealNode(user)), " "]);
  if (users.length > 20) shown.push(`and ${users.length - 20} more `);
  if (entry.outputs.has(id)) shown.push(`output ${entry.outputs.get(id)}`);
  return shown.length === 0 ? "nothing" : shown;
}

// Opens the tree down to the node, and goes there.
function revealNode(node) {
  openSection("graph");
  graph.search.value = graph.filter.value = graph.query = graph.op = "";
  if (!graph.nodes.has(node.path) || graph.list.querySelector(".note")) showGraph();
  const way = [];
  for (let at = node; at !== null; at = at.parent) way.unshift(at);
  let path = "";
  for (const part of (way[0].raw.module || "").split("/").filter((name) => name !== "")) {
    path = path === "" ? part : `${path}/${part}`;
    showAll(graph.list, () => graph.modules.has(path));
    unfold(graph.modules.get(path));
  }
  for (const at of way) {
    showAll(graph.list, () => graph.nodes.has(at.path));
    const made = unfold(graph.nodes.get(at.path));
    if (at !== node) made.querySelectorAll(":scope > details.module").forEach(unfold);
  }
  goTo(graph.nodes.get(node.path));
}

// Shows more of the lists in `within` until `isThere`.
function showAll(within, isThere) {
  while (!isThere()) {
    const buttons = [...within.querySelectorAll("button.more:not([hidden])")];
    if (buttons.length === 0) return;
    buttons.forEach((button) => button.click());
  }
}

function goTo(made) {
  made.scrollIntoView({ block: "center" });
  made.querySelector("summary").focus({ preventScroll: true });
}
