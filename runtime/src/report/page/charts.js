// Pictures. Each has a label, which says in words what it shows.

// Bars of these heights over the range from `low` to `high`.
function histogram(bins, low, high, label, isLarge) {
  const [width, height, floor] = isLarge ? [480, 150, 18] : [96, 24, 0];
  const tallest = Math.max(...bins, 1);
  const step = width / bins.length;
  const bars = bins.map((count, index) => {
    // What is there is seen, however little it is.
    const tall = count === 0 ? 0 : Math.max(1, (count / tallest) * (height - floor - 2));
    const from = low + ((high - low) * index) / bins.length;
    const to = low + ((high - low) * (index + 1)) / bins.length;
    const gap = isLarge && step > 4 ? 1 : 0;
    return drawing("rect",
      { x: index * step, y: height - floor - tall, width: step - gap, height: tall, class: "bar" },
      isLarge ? drawing("title", {}, `${digits(from)} to ${digits(to)}: ${digits(count)}`) : null);
  });
  const ends = !isLarge ? null : [
    drawing("text", { x: 0, y: height - 3 }, digits(low)),
    drawing("text", { x: width, y: height - 3, "text-anchor": "end" }, digits(high)),
  ];
  const zero = low < 0 && high > 0 ? (-low / (high - low)) * width : null;
  const line = !isLarge || zero === null ? null
    : drawing("line", { x1: zero, x2: zero, y1: 0, y2: height - floor, class: "zero" });
  return drawing("svg",
    { viewBox: `0 0 ${width} ${height}`, class: isLarge ? "chart" : "spark", role: "img",
      "aria-label": label, preserveAspectRatio: isLarge ? null : "none" },
    bars, line, ends);
}

// A bar for a share of a whole.
function shareBar(share) {
  const width = Math.max(0, Math.min(1, share ?? 0)) * 100;
  return drawing("svg", { viewBox: "0 0 100 10", class: "share", "aria-hidden": "true", preserveAspectRatio: "none" },
    drawing("rect", { width: 100, height: 10, class: "rail" }),
    drawing("rect", { width, height: 10, class: "bar" }));
}

// A line of numbers, filled down to zero. Of more than 600 numbers each point is the largest of some.
function area(numbers, label) {
  const [width, height] = [720, 120];
  const size = Math.ceil(numbers.length / 600);
  const points = [];
  for (let index = 0; index < numbers.length; index += size) {
    points.push(Math.max(...numbers.slice(index, index + size)));
  }
  const tallest = Math.max(...points, 1);
  const step = width / points.length;
  const path = points.map((number, index) => {
    const y = height - (number / tallest) * (height - 4);
    return `L${index * step} ${y} L${(index + 1) * step} ${y}`;
  });
  return drawing("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": label },
    drawing("path", { d: `M0 ${height} ${path.join(" ")} L${width} ${height} Z`, class: "area" }));
}

// A square matrix of numbers as shades, each with what it is in words. The diagonal, which is near 1
// where all else is near 0, has shades of its own only where it differs from 1.
function heatMap(matrix, label) {
  const size = matrix.length;
  const off = (row, column) => Math.abs(matrix[row][column] - (row === column ? 1 : 0));
  let largest = 0;
  matrix.forEach((line, row) => line.forEach((_, column) => {
    largest = Math.max(largest, off(row, column));
  }));
  const cell = Math.max(2, Math.min(24, Math.floor(384 / size)));
  const canvas = element("canvas", { width: size * cell, height: size * cell, role: "img", "aria-label": label, class: "heat" });
  const paint = canvas.getContext("2d");
  matrix.forEach((line, row) => line.forEach((_, column) => {
    const shade = largest === 0 ? 0 : Math.sqrt(off(row, column) / largest);
    paint.fillStyle = `rgba(${Math.round(40 + 180 * shade)}, ${Math.round(90 - 30 * shade)}, ${Math.round(160 - 110 * shade)}, ${0.08 + 0.92 * shade})`;
    paint.fillRect(column * cell, row * cell, cell - (cell > 4 ? 1 : 0), cell - (cell > 4 ? 1 : 0));
  }));
  const words = note("Shades are distances from the unit matrix, of which the largest is ", digits(largest), ".");
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.min(size - 1, Math.floor(((event.clientY - box.top) / box.height) * size));
    const column = Math.min(size - 1, Math.floor(((event.clientX - box.left) / box.width) * size));
    words.textContent = `row ${row}, column ${column}: ${digits(matrix[row][column])}`;
  });
  return element("figure", {}, canvas, element("figcaption", {}, words));
}
