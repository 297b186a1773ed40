// The sections of the page, which are made when they are opened.

const SECTIONS = [
  ["overview", "Inputs and outputs", overview],
  ["graph", "Graph", graphSection],
  ["constants", "Constants", constantsSection],
  ["optical", "Optical nodes", opticalSection],
  ["schedule", "Schedule", scheduleSection],
  ["memory", "Memory", memorySection],
  ["time", "Time", timeSection],
  ["fusions", "Fused and approximated", fusionsSection],
  ["tests", "Test vectors", testVectors],
  ["file", "File", fileParts],
];
const opened = new Set(["overview", "graph"]);
const sections = new Map();

function openSection(id) {
  return unfold(sections.get(id));
}

function showSections() {
  readTimes();
  const main = document.getElementById("main");
  const made = SECTIONS.map(([id, title, contents]) => {
    const section = openable({ class: "section", open: opened.has(id) }, element("h2", {}, title), contents);
    section.addEventListener("toggle", () => (section.open ? opened.add(id) : opened.delete(id)));
    sections.set(id, section);
    return section;
  });
  main.replaceChildren(...made);
}

function showHeader() {
  const ops = entries.flatMap(({ nodes }) => nodes).length;
  const chooser = entries.length === 1 ? null : element("label", {}, "Entry point ",
    element("select", { id: "entry", onchange: (event) => {
      entry = entries[event.target.selectedIndex];
      showSections();
    } }, entries.map(({ raw }) => element("option", {}, raw.name || "unnamed"))));
  document.getElementById("header").replaceChildren(
    element("h1", {}, data.title),
    element("p", { class: "quiet" },
      `${bytes(data.bytes)} · ${plural(ops, "node")} · ${plural(data.tensors.length, "constant")} · `,
      `${plural(data.tests.length, "test vector")} · format ${data.format}, op set ${data.opset} · written by `,
      data.producer || "nobody"),
    ...(chooser === null ? [] : [chooser]));
  document.getElementById("sections").replaceChildren(...SECTIONS.map(([id, title]) =>
    link(title, () => goTo(openSection(id)))));
}

document.title = `${data.title} · Lumina report`;
showHeader();
showSections();
