// Time of each node, where a benchmark of the model is in the page.

// Of each path, its part of the time with all that lies in its regions, and its own rows.
const times = new Map();

function readTimes() {
  times.clear();
  const { bench } = data;
  if (bench === null || bench.entry !== entry.raw.name) return;
  for (const row of bench.nodes) {
    const parts = row.node.split(".");
    // A node in a region is two steps below the node of the region.
    for (let length = parts.length; length > 0; length -= 2) {
      const path = parts.slice(0, length).join(".");
      if (!times.has(path)) times.set(path, { share: 0, rows: [] });
      times.get(path).share += row.share ?? 0;
    }
    times.get(row.node).rows.push(row);
  }
}

// The part of the time that the node takes, with the nodes of its regions; null where nothing is known.
function timeOf(node) {
  return times.get(node.path)?.share ?? null;
}

function timeWords(node) {
  const known = times.get(node.path);
  if (known === undefined) return null;
  const own = known.rows.reduce((sum, row) => sum + row.ms_per_run, 0);
  return `${quantity(own / 1e3, "s")} for each run, ${percent(known.share)} of all${node.raw.regions ? " with its regions" : ""}`;
}

function timeSection() {
  const { bench } = data;
  if (bench === null) {
    return [note("No benchmark is in this page. ", code("lumina bench --nodes --json MODEL > bench.json"),
      " measures one, and ", code("lumina report --bench bench.json"), " shows it.")];
  }
  if (bench.entry !== entry.raw.name) {
    return [note(`The benchmark is of the entry point ${bench.entry || "without a name"}.`)];
  }
  const symbols = Object.entries(bench.symbols ?? {}).map(([name, value]) => `${name} = ${value}`);
  const { steady } = bench;
  const rows = [...bench.nodes].sort((a, b) => b.ms_per_run - a.ms_per_run);
  return [
    facts([
      ["symbols", symbols.length === 0 ? null : symbols.join(", ")],
      ["threads", bench.threads === undefined ? null : digits(bench.threads)],
      ["runs", steady ? digits(steady.runs) : null],
      ["median", steady ? quantity(steady.p50_ms / 1e3, "s") : null],
      ["p90", steady ? quantity(steady.p90_ms / 1e3, "s") : null],
      ["p99", steady ? quantity(steady.p99_ms / 1e3, "s") : null],
      ["of the limit of the machine", bench.limit ? percent(bench.limit.share) : null],
    ]),
    rows.length === 0
      ? note("It has no times of nodes: ", code("lumina bench --nodes"), " measures them.")
      : pieces(rows, timeRow, 50),
  ];
}

function timeRow(row) {
  const node = entry.byPath.get(row.node);
  return element("div", { class: "time" },
    shareBar(row.share),
    element("span", { class: "number" }, percent(row.share)),
    element("span", { class: "number" }, quantity(row.ms_per_run / 1e3, "s")),
    node === undefined ? element("span", {}, row.op)
      : link(`${idOf(node)} ${row.op}`, () => revealNode(node)),
    element("span", { class: "quiet" }, [
      node?.raw.module ?? "",
      row.calls_per_run === 1 ? "" : `${digits(row.calls_per_run)} calls`,
      row.gflop_per_s ? `${digits(row.gflop_per_s)} GFLOP/s` : "",
      row.gb_per_s ? `${digits(row.gb_per_s)} GB/s` : "",
      row.limit_share ? `${percent(row.limit_share)} of the limit` : "",
    ].filter((part) => part !== "").join(" · ")));
}
