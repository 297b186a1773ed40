// Optical nodes: converters and what the weights make of theirs.

function opticalSection() {
  const nodes = entry.nodes.filter((node) => node.raw.optical);
  if (nodes.length === 0) return [note("This entry point has no optical nodes.")];
  return pieces(nodes, (node) => openable({ class: "node", open: nodes.length <= 4 }, [
    code(idOf(node)), " ", element("span", { class: "op optical" }, node.raw.op), " ",
    element("span", { class: "quiet" }, node.raw.module),
  ], () => [
    element("p", {}, link("show it in the graph", () => revealNode(node))),
    opticalContents(node),
  ]));
}

function opticalContents(node) {
  const { converters, noisy, noise, weights } = node.raw.optical;
  const rows = converters.map(({ what, bits, full_scale: scale }) =>
    [what, ...(bits === 0 ? ["none", "–"] : [digits(bits), fullScale(scale)])]);
  return [
    table(["converter", "#bits", "full scale"], rows),
    weights === null ? null : weightCodes(weights),
    noiseWords(noisy, noise),
  ];
}

function fullScale(scale) {
  if (typeof scale === "string") return scale;
  if (scale.min === scale.max) return `${digits(scale.min)}${scale.count > 1 ? `, all ${digits(scale.count)}` : ""}`;
  return `${digits(scale.min)} to ${digits(scale.max)}, ${digits(scale.count)} of them`;
}

function noiseWords(noisy, noise) {
  if (!noisy) return element("p", {}, "It runs without noise.");
  if (noise === null) return element("p", {}, "Its noise is given in each run.");
  const names = ["thermal", "shot", "relative", "weight"];
  const row = (numbers) => names.map((name, index) => `${name} ${digits(numbers[index])}`).join(", ");
  return element("p", {}, `Noise: ${row(noise.slice(0, 4))}.`);
}

// The levels of the DAC that the weights use, and what is lost.
function weightCodes(weights) {
  const { full_scale: scale, found, columns, clipped, mean_use: use } = weights;
  const { bins, levels, levels_used: used, largest_code: largest, sqnr_db: sqnr } = weights;
  const range = scale.min === scale.max ? digits(scale.min) : `${digits(scale.min)} to ${digits(scale.max)}`;
  return [
    element("h4", {}, "Weights in their converter"),
    bins === undefined ? null : histogram(bins, -largest, largest, "histogram of the codes of the weights", true),
    facts([
      ["full scale", `${range}${found ? `, the largest weight of each of ${plural(columns, "column")}` : ""}`],
      ["clipped", bins === undefined ? null : digits(clipped)],
      ["mean |w| / full scale", percent(use)],
      ["levels used", bins === undefined ? null : `${digits(used)} of ${digits(levels)}`],
      ["signal to rounding", bins === undefined ? null : sqnr === null ? "nothing is lost" : `${sqnr.toFixed(1)} dB`],
    ]),
  ];
}

// Nodes that were put together from others, and those that do otherwise than their formula.
function fusionsSection() {
  const fused = entry.nodes.filter((node) => node.raw.fused.length > 0);
  const inexact = entry.nodes.filter((node) => approximation(node.raw) !== null);
  const line = (node, words) => element("div", { class: "line" },
    link(`${idOf(node)} ${node.raw.op}`, () => revealNode(node)), " ",
    element("span", { class: "quiet" }, node.raw.module), words);
  return [
    element("h3", {}, "Put together from several"),
    fused.length === 0 ? note("None.")
      : pieces(fused, (node) => line(node, partsOf(node.raw)), 50),
    element("h3", {}, "Approximated"),
    inexact.length === 0 ? note("None.")
      : pieces(inexact, (node) => line(node, element("div", {}, approximation(node.raw))), 50),
  ];
}
