// What is in the model: entry points, their nodes by place, and what their values are.

const data = JSON.parse(document.getElementById("data").textContent);
const tensors = new Map(data.tensors.map((tensor) => [tensor.id, tensor]));

// Nodes of an entry point, those of regions included, each with its path: "3", or "3.body.1" for
// node 1 of the region `body` of node 3.
class Entry {
  constructor(raw) {
    this.raw = raw;
    this.nodes = [];
    this.byPath = new Map();
    // The nodes that read each value of the entry point, and what each value is.
    this.users = new Map();
    this.values = new Map();
    raw.inputs.forEach((port) => this.values.set(port.id, { kind: "input", name: port.name }));
    raw.states.forEach((state) => this.values.set(state.id, { kind: "state", name: state.name }));
    data.tensors.forEach((tensor) => this.values.set(tensor.id, { kind: "constant", tensor }));
    this.walk(raw.nodes, "", this.values, null);
    this.outputs = new Map(raw.outputs.map((port) => [port.id, port.name]));
  }

  walk(nodes, before, values, parent) {
    nodes.forEach((raw, index) => {
      const node = { raw, path: `${before}${index}`, values, parent };
      this.nodes.push(node);
      this.byPath.set(node.path, node);
      const read = [raw.inputs, (raw.regions ?? []).map((region) => region.captures)].flat(2);
      if (parent === null) {
        for (const id of new Set(read)) {
          if (!this.users.has(id)) this.users.set(id, []);
          this.users.get(id).push(node);
        }
      }
      raw.outputs.forEach((id) => values.set(id, { kind: "node", node }));
      for (const region of raw.regions ?? []) {
        const inner = new Map();
        region.captures.forEach((id, own) => inner.set(own, values.get(id)));
        for (let input = 0; input < region.inputs; input += 1) {
          inner.set(region.captures.length + input, { kind: "given", name: `${region.name}, input ${input}` });
        }
        this.walk(region.nodes, `${node.path}.${region.name}.`, inner, node);
      }
    });
  }

  // The name of a constant, or where the first node that reads it comes from.
  constantName(tensor) {
    if (tensor.name !== "") return tensor.name;
    const user = this.users.get(tensor.id)?.[0];
    if (user === undefined) return "unnamed constant";
    const names = user.raw.op === "dequantize" ? ["codes", "scale", "zero point", "table"]
      : user.raw.optical?.operands;
    const role = names?.[user.raw.inputs.indexOf(tensor.id)] ?? "constant";
    return `${role} of ${weightOf(user) || user.raw.module || user.raw.op}`;
  }
}

const entries = data.entries.map((raw) => new Entry(raw));
let entry = entries[0];

// The name of the weight that the node makes of its codes; "" of any other node.
function weightOf(node) {
  return node.raw.op === "dequantize" ? node.values.get(node.raw.inputs[0])?.tensor?.name ?? "" : "";
}

// The result of the node, as its id: "%18".
function idOf(node) {
  return node.raw.outputs.map((id) => `%${id}`).join(", ");
}

// What the node does otherwise than its formula; null where it does not.
function approximation(raw) {
  if (raw.optical) {
    const all = raw.optical.converters.filter((converter) => converter.bits > 0);
    if (all.length === 0) return null;
    return "converters: " + all.map(({ what, bits }) => `${what} ${plural(bits, "bit")}`).join(", ");
  }
  const { attrs } = raw;
  if (raw.op === "gelu" && attrs.approximate === true) return "GELU by its formula with tanh";
  if (attrs.activation === "gelu_tanh") return "GELU by its formula with tanh";
  if (raw.op === "dequantize") return `weights as codes of ${plural(attrs.bits, "bit")}`;
  if (raw.op === "quantize") return `rounded to ${plural(attrs.bits, "bit")}`;
  if (raw.op === "reduce_precision") {
    return `rounded to ${attrs.exponent_bits} bits of exponent and ${attrs.mantissa_bits} of mantissa`;
  }
  const size = { bf16: 1, f16: 1, f32: 2, f64: 3, c64: 2, c128: 3 };
  const [from, to] = [raw.operand_types[0]?.split("[")[0], attrs.new_dtype];
  if (raw.op === "convert_element_type" && size[from] > size[to]) return `rounded from ${from} to ${to}`;
  return null;
}
