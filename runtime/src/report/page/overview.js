// What the model takes and returns, and the parts of the file.

function typeOf(port) {
  return `${port.dtype}[${port.shape.join(", ")}]`;
}

function overview() {
  const raw = entry.raw;
  const ports = (list) => list.map((port) =>
    [code(`%${port.id}`), port.name, code(typeOf(port)), port.role === "noise_seed" ? "seed of the noise" : ""]);
  const states = raw.states.map((state) => [
    code(`%${state.id}`), state.name, code(typeOf(state)),
    state.next === null ? "stays" : `becomes %${state.next}`,
    state.initial === null ? "zeros" : `%${state.initial}`,
  ]);
  const symbols = raw.symbols.map(({ name, value, origin }) => [code(name), digits(value), origin]);
  return [
    element("h3", {}, "Inputs"),
    table(["id", "name", "type", ""], ports(raw.inputs)),
    element("h3", {}, "Outputs"),
    table(["id", "name", "type", ""], ports(raw.outputs)),
    states.length === 0 ? null : [
      element("h3", {}, "States"),
      table(["id", "name", "type", "after a run", "at first"], states),
    ],
    symbols.length === 0 ? null : [
      element("h3", {}, "Symbols"),
      note("Shapes and memory on this page are those for these values; ", code("--symbol"),
        " of ", code("lumina report"), " sets others."),
      table(["name", "#value", "why"], symbols),
    ],
  ];
}

function fileParts() {
  const rows = data.sections.map((section) => [
    section.kind, bytes(section.length), shareBar(section.length / data.bytes),
    digits(section.offset), code(section.crc32c.toString(16).padStart(8, "0")),
  ]);
  return [table(["section", "#size", "of the file", "#offset", "crc32c"], rows)];
}

function testVectors() {
  if (data.tests.length === 0) return [note("The file has none, so ", code("lumina verify"), " has nothing to compare.")];
  const list = (tensors) => tensors.map(([name, type]) =>
    element("div", {}, name, " ", code(type)));
  const rows = data.tests.map((test, index) => [
    digits(index), test.entry || "–", list(test.inputs), list(test.outputs),
    `${digits(test.absolute_tolerance)} + ${digits(test.relative_tolerance)}·|want|`,
    test.continues ? "those that the one before left" : "those of a new session",
  ]);
  return [
    note(code("lumina verify"), " computes them again and compares."),
    table(["#number", "entry point", "inputs", "outputs", "tolerance", "states"], rows),
  ];
}
