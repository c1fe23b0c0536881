// The page of a scored folder.

const summary = data.summary;
const percent = (share) => `${short(100 * share, 3)} %`;
const measure = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const withInterval = (value, interval) =>
  interval ? `${measure(value)} [${measure(interval[0])}, ${measure(interval[1])}]` : measure(value);

// ---- Heading and tiles ------------------------------------------------------------------------

function showHeading() {
  byId("name").textContent = data.name;
  document.title = `${data.name} · convae scores`;
  byId("state").textContent =
    `${many(summary.images, "picture")}, ${summary.anomalous_images} anomalous: score above ${short(summary.threshold)}.`;
  for (const warning of summary.warnings) byId("warnings").append(make("p", {class: "message"}, warning));
  byId("written").textContent = `Written by convae ${data.version} on ${data.written}.`;
}

function showTiles() {
  addTile("Anomalous", String(summary.anomalous_images), `of ${many(summary.images, "picture")}`);
  addTile("Threshold", short(summary.threshold),
          `for at most ${percent(Math.max(summary.fpr, summary.calibration.smallest_fpr))} of good pictures`);
  addTile("Calibrated on", String(summary.calibration.images), `good pictures in ${many(summary.calibration.groups, "group")}`);
  if (summary.skipped > 0) addTile("Skipped", String(summary.skipped), "files that could not be used");
  if (!summary.labelled) return;
  if (summary.image_auroc !== null) {
    addTile("Image AUROC", measure(summary.image_auroc), `no network: ${measure(summary.controls.no_network.image_auroc)}`);
  }
  if (summary.pro !== null) addTile("PRO", measure(summary.pro), `${many(summary.regions, "region")} in masks`);
  if (summary.false_positive_rate !== null) addTile("False alarms", percent(summary.false_positive_rate), "of the good pictures here");
  if (summary.recall !== null) addTile("Found", percent(summary.recall), "of the pictures with defects");
}

function showSections() {
  for (const section of document.querySelectorAll("main section:not([hidden])")) {
    byId("sections").append(make("a", {href: `#${section.id}`}, section.querySelector("h2").textContent), " ");
  }
}

// ---- Pictures ---------------------------------------------------------------------------------

function makeCard({name, label, score, anomalous, size: [width, height], parts}) {
  const pictures = make("div", {class: "parts two"});
  ["picture", "where it is unusual"].forEach((title, i) => {
    const picture = make("img", {src: data.pictures[parts[i]], alt: `${i === 0 ? "Picture" : "Unusual places in"}: ${name}`, loading: "lazy"});
    picture.style.aspectRatio = `${width} / ${height}`;
    picture.classList.toggle("small", Math.max(width, height) <= 56);
    pictures.append(make("figure", {}, picture, make("figcaption", {}, title)));
  });
  const verdict = [`score ${short(score)}`, anomalous ? "anomalous" : "passed", ...(label ? [`label ${label}`] : [])];
  return make("article", {class: "card"}, make("h3", {}, name), pictures,
              make("p", {class: "quality"}, verdict.join(" · ")));
}

/** `places` of data.cards in a section; `text` says what they are, given how many there are. */
function showCards(section, {count, places}, text) {
  byId(section).hidden = false;
  const all = count <= places.length;
  byId(`${section}-note`).textContent =
    text + (count > 0 && !all ? ` Shown are ${places.length} of ${count}; scores.csv has all.` : "");
  for (const place of places) byId(`${section}-cards`).append(makeCard(data.cards[place]));
}

function showPictures() {
  const {ranked, false_alarms: alarms, misses} = data.lists;
  showCards("ranked", ranked, "The highest scores first.");
  if (!summary.labelled) return;
  if (summary.good > 0) {
    showCards("alarms", alarms, alarms.count === 0 ? "None: no good picture has a score above the threshold." :
      `${many(alarms.count, "good picture is", "good pictures are")} called anomalous, the highest score first.`);
  }
  if (summary.anomalous > 0) {
    showCards("misses", misses, misses.count === 0 ? "None: all pictures with defects have a score above the threshold." :
      `${many(misses.count, "picture with a defect passes", "pictures with defects pass")}, the lowest score first.`);
  }
}

// ---- Scores -----------------------------------------------------------------------------------

const STYLES = ["first", "second", "third"];

function paintDistribution(room) {
  const {start, width, bins, series} = data.histogram;
  const end = start + bins * width;
  const shares = series.map(({counts}) => counts.map((count) => count / counts.reduce((a, b) => a + b, 0)));
  const most = Math.max(...shares.flat());
  const x = (score) => MARGIN.left + (score - start) / (end - start) * room.width;
  const y = (share) => room.bottom - share / most * (room.height - 16);
  const svg = draw("svg", {role: "img", "aria-label":
    `Histogram of scores with the threshold at ${short(summary.threshold)}. The table below has all bars.`});
  drawAxes(svg, room, {xTicks: linearTicks(start, end, Math.max(2, Math.floor(room.width / 90))), x,
                       yTicks: linearTicks(0, most, 4), y, name: percent});
  shares.forEach((values, i) => {
    const steps = values.map((share, bin) => `V${y(share).toFixed(1)}H${x(start + (bin + 1) * width).toFixed(1)}`);
    svg.append(draw("path", {class: `line ${STYLES[i]}`, d: `M${MARGIN.left},${room.bottom}${steps.join("")}V${room.bottom}`}));
  });
  const at = x(summary.threshold), left = at > MARGIN.left + room.width / 2;
  svg.append(draw("line", {class: "cursor", x1: at, x2: at, y1: MARGIN.top, y2: room.bottom}),
             draw("text", {x: at + (left ? -6 : 6), y: MARGIN.top + 10, "text-anchor": left ? "end" : "start"},
                  `threshold ${short(summary.threshold)}`));
  return svg;
}

function showScores() {
  const {bins, series, above} = data.histogram;
  byId("scores-note").textContent =
    "How many pictures have which score, as a share of their kind; the line is the threshold." +
    (above > 0 ? ` The last bar also has the ${many(above, "picture")} with still higher scores.` : "");
  const table = fillTable(
    make("table"), "Pictures by score", ["score", ...series.map(({label}) => label)],
    Array.from({length: bins}, (_, bin) => [binName(data.histogram, bin), ...series.map(({counts}) => String(counts[bin]))]),
    (i) => (i === 0 ? "" : "number"));
  const legend = makeLegend(series.map(({label, counts}, i) => (
    {label: `${label} (${counts.reduce((a, b) => a + b, 0)})`, style: STYLES[i]})));
  byId("distribution").append(make("figure", {}, make("figcaption", {}, legend), makePlot(paintDistribution)),
                              numbersBelow("The bars as a table", "Bars of the histogram", table));
}

function paintRoc(room) {
  const x = (share) => MARGIN.left + share * room.width, y = (share) => room.bottom - share * room.height;
  const svg = draw("svg", {role: "img", "aria-label":
    `ROC curve: ${data.roc.map(({label, auroc}) => `${label}, area ${measure(auroc)}`).join("; ")}.`});
  drawAxes(svg, room, {xTicks: [0, 0.25, 0.5, 0.75, 1], x, yTicks: [0, 0.25, 0.5, 0.75, 1], y});
  svg.append(draw("line", {class: "best", x1: x(0), y1: y(0), x2: x(1), y2: y(1)}));
  data.roc.forEach(({points}, i) => {
    const path = points.map(([wrong, found]) => `${x(wrong).toFixed(1)},${y(found).toFixed(1)}`).join("L");
    svg.append(draw("path", {class: `line ${STYLES[i]}`, d: `M${path}`}));
  });
  svg.append(draw("circle", {class: "first", cx: x(summary.false_positive_rate), cy: y(summary.recall), r: 5}));
  return svg;
}

function showRoc() {
  if (data.roc.length === 0) return;
  byId("roc").hidden = false;
  byId("roc-note").textContent =
    "Share of good pictures called anomalous (to the right) and of pictures with defects found (upwards), over all thresholds. " +
    `The dot is the threshold: ${percent(summary.false_positive_rate)} and ${percent(summary.recall)}.`;
  const legend = makeLegend(data.roc.map(({label, auroc}, i) => ({label: `${label}, area ${measure(auroc)}`, style: STYLES[i]})));
  byId("roc-curve").append(make("figure", {}, make("figcaption", {}, legend), makePlot(paintRoc, {class: "plot square"})));
}

// ---- Measures ---------------------------------------------------------------------------------

function showMeasures() {
  if (!summary.labelled) return;
  byId("measures").hidden = false;
  byId("measures-note").textContent =
    `Of ${many(summary.good, "good picture")} and ${summary.anomalous} with defects; intervals hold 95 % of samples of their groups. Controls use no trained network, or no more than its mean error.`;
  const row = (title, m) => [title, String(m.anomalous), withInterval(m.image_auroc, m.image_auroc_interval),
    withInterval(m.average_precision, m.average_precision_interval), measure(m.recall), measure(m.f1),
    measure(m.pixel_auroc), measure(m.pro)];
  const named = (key) => key.replaceAll("_", " ");
  byId("measures-place").append(fillTable(
    make("table", {id: "measures-table"}), "As in summary.json",
    ["", "with defects", "image AUROC", "average precision", "recall", "F1", "pixel AUROC", "PRO"],
    [row("all kinds", summary),
     ...Object.entries(summary.kinds).map(([kind, m]) => row(kind, m)),
     row("residual alone", summary.residual_alone),
     ...Object.entries(summary.controls).map(([key, m]) => row(`control: ${named(key)}`, m))],
    (i) => (i === 0 ? "name" : "number")));
}

showHeading();
showTiles();
showPictures();
showScores();
showRoc();
showMeasures();
showSections();
