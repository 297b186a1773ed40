// What lies in which buffer when.

function memorySection() {
  const { memory } = entry.raw;
  if (memory.error !== undefined) return [note("There is no plan: ", memory.error)];
  const spans = memory.spans.map(([buffer, first, last, size, kind, id]) =>
    ({ buffer, first, last, size, kind, id }));
  const live = new Array(memory.steps.length).fill(0);
  const changes = new Array(memory.steps.length + 1).fill(0);
  spans.forEach(({ first, last, size }) => { changes[first] += size; changes[last + 1] -= size; });
  let now = 0;
  live.forEach((_, step) => { now += changes[step]; live[step] = now; });
  const { peak_step: peak } = memory;
  const atPeak = spans.filter(({ first, last }) => first <= peak && peak <= last)
    .sort((a, b) => b.size - a.size).slice(0, 12);
  return [
    facts([
      ["buffers", digits(memory.buffers.length)],
      ["states among them", digits(memory.state_buffers)],
      ["allocated for buffers", bytes(memory.allocated)],
      ["needed at once", memory.steps.length === 0 ? null : `${bytes(memory.peak)}, at step ${digits(peak)}`],
      ["kept of constants", bytes(memory.kept)],
      ["of that, copies in another order", bytes(memory.copied_constants)],
    ]),
    memory.steps.length === 0 ? note("Nothing is computed in a run.") : [
      element("h3", {}, "Bytes in use, step by step"),
      area(live, `bytes in use at each of ${memory.steps.length} steps, at most ${bytes(memory.peak)}`),
      element("h3", {}, "Buffers over the steps"),
      memoryMap(memory, spans),
      element("h3", {}, `In use at step ${digits(peak)}`),
      table(["what", "#size", "#buffer", "#from step", "#to step"],
        atPeak.map((span) => [spanLink(span), bytes(span.size), digits(span.buffer), digits(span.first), digits(span.last)])),
    ],
  ];
}

function spanText({ kind, id }) {
  if (kind === "state") return "state";
  if (kind === "work") return "working memory of a loop or branch";
  const value = entry.values.get(id);
  const text = `%${id} ${value?.kind === "node" ? value.node.raw.op : valueText(value, id)}`;
  return kind === "copy" ? `copy of ${text}` : text;
}

function spanLink(span) {
  const value = span.id === null ? undefined : entry.values.get(span.id);
  if (value?.kind !== "node") return spanText(span);
  return link(spanText(span), () => revealNode(value.node));
}

// A row for each buffer, a rectangle for each thing in it. Of very many, the largest are drawn.
function memoryMap(memory, spans) {
  const most = 1500;
  const area = ({ size, first, last }) => size * (last - first + 1);
  const drawn = [...spans].sort((a, b) => area(b) - area(a)).slice(0, most);
  const rows = [...new Set(drawn.map(({ buffer }) => buffer))].sort((a, b) => a - b);
  const rowOf = new Map(rows.map((buffer, row) => [buffer, row]));
  const [width, tall] = [720, Math.max(2, Math.min(18, Math.floor(600 / rows.length)))];
  const step = width / memory.steps.length;
  const rectangles = drawn.map((span) => drawing("rect", {
    x: span.first * step, width: Math.max(0.5, (span.last - span.first + 1) * step - (step > 3 ? 1 : 0)),
    y: rowOf.get(span.buffer) * tall, height: tall > 3 ? tall - 1 : tall, class: `span ${span.kind}`,
  }, drawing("title", {}, `${spanText(span)}: ${bytes(span.size)} in buffer ${span.buffer}, steps ${span.first} to ${span.last}`)));
  const height = rows.length * tall;
  return [
    drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart map", role: "img",
      "aria-label": `what lies in ${plural(rows.length, "buffer")} over ${plural(memory.steps.length, "step")}` }, rectangles),
    element("p", { class: "legend" },
      ["value", "copy", "work", "state"].map((kind) => [element("span", { class: `key ${kind}` }), ` ${kind} `])),
    drawn.length === spans.length ? null : note(`The ${most} largest of ${digits(spans.length)} are drawn.`),
  ];
}
