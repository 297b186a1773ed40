// The constants with their statistics.

const constants = { order: "file", query: "", list: null, made: new Map() };

const ORDERS = {
  file: ["as in the file", () => 0],
  size: ["largest first", (a, b) => (b.bytes ?? 0) - (a.bytes ?? 0)],
  name: ["by name", (a, b) => (nameOf(a) < nameOf(b) ? -1 : 1)],
  spread: ["most spread first", (a, b) => (b.statistics.std ?? -1) - (a.statistics.std ?? -1)],
  odd: ["not finite first", (a, b) => b.statistics.nonfinite - a.statistics.nonfinite],
};

function nameOf(tensor) {
  return entry.constantName(tensor);
}

// Bits of its codes; null of a constant that has none.
function bitsOf(tensor) {
  return tensor.bits ?? tensor.coded?.bits ?? null;
}

function constantsSection() {
  const search = element("input", {
    type: "search", id: "constant-search", placeholder: "name or %id",
    oninput: () => { constants.query = search.value.trim().toLowerCase(); showConstants(); },
  });
  const order = element("select", {
    id: "order", onchange: () => { constants.order = order.value; showConstants(); },
  }, Object.entries(ORDERS).map(([key, [title]]) => element("option", { value: key }, title)));
  Object.assign(constants, { search, query: "", order: "file" });
  constants.list = element("div");
  showConstants();
  return [
    element("div", { class: "tools" },
      element("label", {}, "Search", search), element("label", {}, "Order", order)),
    constants.list,
  ];
}

function showConstants() {
  constants.made.clear();
  const found = data.tensors
    .filter((tensor) => `${nameOf(tensor)}\n%${tensor.id}`.toLowerCase().includes(constants.query))
    .sort(ORDERS[constants.order][1]);
  if (found.length === 0) constants.list.replaceChildren(note("No constant is like that."));
  else constants.list.replaceChildren(...pieces(found, constantElement));
}

function constantElement(tensor) {
  const { statistics } = tensor.coded ?? tensor;
  const label = `histogram of ${nameOf(tensor)}`;
  const made = openable({ class: "constant" }, [
    code(`%${tensor.id}`),
    element("span", { class: "name" }, nameOf(tensor)),
    element("span", { class: "type" }, tensor.type, bitsOf(tensor) === null ? "" : `, ${plural(bitsOf(tensor), "bit")}`),
    element("span", { class: "quiet" }, bytes(tensor.bytes)),
    statistics.bins.length > 1 ? histogram(statistics.bins, statistics.min, statistics.max, label, false)
      : element("span", { class: "quiet" }, statistics.bins.length === 1 ? `all ${digits(statistics.min)}`
        : statistics.count === 1 ? "not finite" : ""),
    // A single one is meant to be none, such as what stands where nothing is.
    statistics.nonfinite === 0 || statistics.count === 1 ? null
      : element("span", { class: "warning" }, `${digits(statistics.nonfinite)} not finite`),
  ], () => constantContents(tensor));
  constants.made.set(tensor.id, made);
  return made;
}

function constantContents(tensor) {
  if (tensor.coded !== null) return codedContents(tensor);
  const { statistics } = tensor;
  const { count, zeros, nonfinite, min, max, mean, std, bins } = statistics;
  return [
    bins.length === 0 ? note(count === 0 ? "It has no elements." : "No element is finite.")
      : histogram(bins, min, max, `histogram of ${nameOf(tensor)}`, true),
    facts([
      ["elements", digits(count)],
      ["min", digits(min)], ["max", digits(max)], ["mean", digits(mean)], ["std", digits(std)],
      ["zeros", count === 0 ? null : `${digits(zeros)} (${percent(zeros / count)})`],
      ["not finite", digits(nonfinite)],
    ]),
    element("p", {}, "Read by ", usersOf(tensor.id)),
  ];
}

// What packed codes stand for. The words that hold them say nothing as numbers.
function codedContents(tensor) {
  const { bits, type, statistics, codes } = tensor.coded;
  const { min, max, mean, std, bins } = statistics;
  const used = codes.filter((count) => count > 0).length;
  return [
    element("h4", {}, `Codes of ${plural(bits, "bit")}`),
    histogram(codes, 0, codes.length - 1, `histogram of the codes of ${nameOf(tensor)}`, true),
    facts([["codes used", `${digits(used)} of ${digits(codes.length)}`]]),
    element("h4", {}, "The numbers that they stand for"),
    bins.length === 0 ? null : histogram(bins, min, max, `histogram of the numbers of ${nameOf(tensor)}`, true),
    facts([
      ["type", code(type)],
      ["min", digits(min)], ["max", digits(max)], ["mean", digits(mean)], ["std", digits(std)],
    ]),
    element("p", {}, "Read by ", usersOf(tensor.id)),
  ];
}

// Opens the list at the constant, and goes there.
function revealConstant(id) {
  openSection("constants");
  constants.search.value = constants.query = "";
  showConstants();
  showAll(constants.list, () => constants.made.has(id));
  goTo(unfold(constants.made.get(id)));
}
