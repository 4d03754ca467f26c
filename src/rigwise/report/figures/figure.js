const data = JSON.parse(document.getElementById("specs").textContent);
const place = document.getElementById("figure");
const dark = matchMedia("(prefers-color-scheme: dark)");
let drawn = 0;

function inTheme(value) {
  if (!dark.matches) return value;
  if (Array.isArray(value)) return value.map(inTheme);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, inTheme(inner)]));
  }
  return typeof value === "string" && value in data.dark ? data.dark[value] : value;
}

/* A chart of several panels takes the width of its panels; the room for their labels is not in it. */
function toWidth(spec, width) {
  if (spec.vconcat) return { ...spec, vconcat: spec.vconcat.map((panel) => ({ ...panel, width: width - spec.usermeta.labels_px })) };
  return { ...spec, width };
}

async function draw() {
  const width = place.clientWidth;
  if (!width || width === drawn) return;
  drawn = width;
  const spec = toWidth(inTheme(width < data.below_px ? data.narrow : data.wide), width);
  const tooltip = { theme: dark.matches ? "dark" : "light" };
  await window.vegaEmbed(place, spec, { actions: false, renderer: "svg", tooltip });
}

dark.addEventListener("change", () => { drawn = 0; draw(); });
addEventListener("resize", draw);
draw();
