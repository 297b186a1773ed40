// What the photonic processor does in a call: settings of its banks, time and energy.

function scheduleSection() {
  const { schedule } = entry.raw;
  if (schedule === null) {
    return [note("The file says nothing of the processor that it runs on. ",
      code("lumina_jax.export.export(..., profile=...)"), " writes the schedule for one.")];
  }
  if (schedule.error !== undefined) return [note("There is no schedule: ", schedule.error)];
  const { device, wavelengths_nm: wavelengths, crosstalk, layers, totals, notes } = schedule;
  return [
    notes.map((text) => note(text)),
    facts([
      ["processor", device.name || "without a name"],
      ["banks", `${digits(device.banks)} of ${digits(device.bank_rows)} inputs × ${digits(device.bank_columns)} outputs`],
      ["symbol rate", quantity(device.symbol_rate_hz, "Hz")],
      ["weights settle in", quantity(device.settling_s, "s")],
    ]),
    facts([
      ["settings of banks", digits(totals.settings)],
      ["utilization", percent(totals.utilization)],
      ["latency", quantity(totals.latency_s, "s")],
      ["of that, settling", quantity(totals.settling_s, "s")],
      ["energy", quantity(totals.total_j, "J")],
      ["of that, setting weights", quantity(totals.reprogramming_j, "J")],
    ]),
    element("h3", {}, "Products"),
    table(["product", "#rows", "#inputs", "#outputs", "#tiles", "#settings", "#used", "#latency", "#energy"],
      layers.map(layerRow)),
    element("h3", {}, "Energy"),
    table(["part", "#energy", "of all"], Object.entries(totals.energy_j).map(([part, joule]) =>
      [part, quantity(joule, "J"), shareBar(totals.total_j > 0 ? joule / totals.total_j : 0)])),
    pieces(layers, (layer) => openable({ class: "node" },
      [element("span", { class: "name" }, `Tiles of ${layer.name}`)], () => tiles(layer, device)), 50),
    wavelengths.length === 0 ? null : [
      element("h3", {}, "Wavelengths"), wavelengthLine(wavelengths),
    ],
    crosstalk === null ? null : [element("h3", {}, "Crosstalk"), ...crosstalkContents(crosstalk)],
  ];
}

function layerRow(layer) {
  const { cost } = layer;
  const number = /^node (\d+)/.exec(layer.place)?.[1];
  const node = entry.byPath.get(number ?? "");
  const name = layer.is_counted ? layer.name : `(${layer.name})`;
  return [
    node === undefined ? name : link(name, () => revealNode(node)),
    digits(layer.rows), digits(layer.inputs), digits(layer.outputs),
    `${digits(layer.tiles[0])}\u00a0×\u00a0${digits(layer.tiles[1])}`,
    digits(cost.settings), percent(cost.utilization), quantity(cost.latency_s, "s"), quantity(cost.total_j, "J"),
  ];
}

// The weights of a product as the banks hold them, tile by tile, in the order of their settings.
function tiles(layer, device) {
  const [down, across] = layer.tiles;
  const most = 1024;
  const words = [
    `Pass p of ${digits(down * across)} holds tile `,
    layer.order.startsWith("inputs") ? "(p mod down, p div down)" : "(p div across, p mod across)",
    ` on bank p mod ${digits(device.banks)}; ${layer.order}.`,
  ];
  if (down * across > most) return [note(...words, " They are too many to draw.")];
  // In proportion, as far as the shorter side stays wide enough to be seen.
  const fill = (extent) => Math.max(48, (480 * extent) / Math.max(layer.inputs, layer.outputs));
  const [width, height] = [fill(layer.outputs), fill(layer.inputs)];
  const [right, below] = [width / layer.outputs, height / layer.inputs];
  const drawn = [];
  for (let pass = 0; pass < down * across; pass += 1) {
    const [i, j] = layer.order.startsWith("inputs")
      ? [pass % down, Math.floor(pass / down)] : [Math.floor(pass / across), pass % across];
    const [top, left] = [i * layer.tile_rows, j * layer.tile_columns];
    const tall = Math.min(layer.tile_rows, layer.inputs - top);
    const wide = Math.min(layer.tile_columns, layer.outputs - left);
    const title = `pass ${pass} on bank ${pass % device.banks}: inputs ${top} to ${top + tall - 1}, outputs ${left} to ${left + wide - 1}`;
    drawn.push(drawing("rect", {
      x: left * right, y: top * below,
      width: Math.max(0.5, wide * right - 1), height: Math.max(0.5, tall * below - 1),
      class: `tile bank${pass % device.banks % 4}`,
    }, drawing("title", {}, title)));
    if (Math.min(wide * right, tall * below) > 22) {
      drawn.push(drawing("text", { x: left * right + 4, y: top * below + 14, class: "mark" }, String(pass)));
    }
  }
  return [
    drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "tiles", role: "img", width, height,
      "aria-label": `tiles of ${layer.name}: ${down} down the inputs, ${across} across the outputs` }, drawn),
    note(...words),
    facts([
      ["runs × products", `${digits(layer.runs)} × ${digits(layer.calls)}`],
      ["rows of an array in the runtime", layer.array_rows === null ? "all inputs" : digits(layer.array_rows)],
      ["slots of the inputs", layer.slots === null ? "their places in the tile"
        : layer.slots.slice(0, 64).join(", ") + (layer.slots.length > 64 ? ` and ${layer.slots.length - 64} more` : "")],
    ]),
  ];
}

function wavelengthLine(wavelengths) {
  const low = wavelengths.reduce((least, nm) => Math.min(least, nm));
  const high = wavelengths.reduce((largest, nm) => Math.max(largest, nm));
  const place = (nm) => (high === low ? 360 : 10 + (700 * (nm - low)) / (high - low));
  const lines = wavelengths.slice(0, 1000).map((nm, slot) => drawing("line",
    { x1: place(nm), x2: place(nm), y1: 4, y2: 34, class: "wave" },
    drawing("title", {}, `slot ${slot}: ${nm.toFixed(3)} nm`)));
  return [
    drawing("svg", { viewBox: "0 0 720 38", class: "chart", role: "img",
      "aria-label": `${wavelengths.length} wavelengths from ${low.toFixed(2)} to ${high.toFixed(2)} nm` }, lines),
    note(`${plural(wavelengths.length, "slot")} from ${low.toFixed(3)} to ${high.toFixed(3)} nm; `,
      `the first is at ${wavelengths[0].toFixed(3)} nm.`),
  ];
}

function crosstalkContents(crosstalk) {
  const { size, matrix, compensation, condition_number: condition } = crosstalk;
  return [
    facts([
      ["slots", digits(size)],
      ["compensation", compensation],
      ["condition number", condition === null ? null : digits(condition)],
    ]),
    size === 0 || size > 256 ? note("The matrix is too large to draw.")
      : heatMap(matrix, `crosstalk of ${size} slots`),
  ];
}

// A number with a prefix and its unit.
function quantity(value, unit) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return `0 ${unit}`;
  const prefixes = ["a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E"];
  const exponent = Math.max(-6, Math.min(6, Math.floor(Math.log10(Math.abs(value)) / 3 + 1e-4)));
  return `${Number((value / 1000 ** exponent).toPrecision(3))} ${prefixes[exponent + 6]}${unit}`;
}
