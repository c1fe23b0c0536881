// The page of a training run.

function duration(seconds) {
  if (seconds < 60) return `${short(seconds, 3)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const shape = (numbers) => numbers.join("×");
const product = (numbers) => numbers.reduce((a, b) => a * b, 1);

// ---- Heading and tiles ------------------------------------------------------------------------

const MEASURES = {val_loss: "Validation loss", val_mse: "Mean squared error", val_psnr: "PSNR in dB", val_ssim: "SSIM",
                  train_loss: "Training loss"};
const epochs = data.metrics.epoch;
const last = epochs.length - 1;

function showHeading() {
  byId("name").textContent = data.name;
  document.title = `${data.name} · convae report`;
  const done = last >= 0 ? epochs[last] : 0;
  const states = {
    "running": `Training: ${done} of ${data.epochs} epochs done.`,
    "finished": `Finished after ${many(done, "epoch")}.`,
    "stopped early": `Stopped early after ${many(done, "epoch")}: nothing better for a while.`,
    "interrupted": `Interrupted after ${many(done, "whole epoch")}; train --resume goes on.`,
    "failed": `Ended with an error after ${many(done, "whole epoch")}.`
  };
  byId("state").textContent = states[data.state];
  byId("message").textContent = data.message;
  byId("message").hidden = data.message === "";
  byId("written").textContent = `Written by convae ${data.version} on ${data.written}.`;
  if (data.state !== "running") return;
  byId("progress").hidden = false;
  byId("progress").max = data.epochs;
  byId("progress").value = done;
  byId("watch").hidden = false;
}

function showTiles() {
  const at = epochs.indexOf(data.best_epoch);
  const whenBest = `epoch ${data.best_epoch}, best by ${data.best_by}`;
  // An epoch that was cut short and then finished may have been better before.
  const before = at >= 0 && Math.abs(data.metrics[data.best_by][at] / data.best_value - 1) > 1e-4;
  if (before) {
    addTile(MEASURES[data.best_by], short(data.best_value), `within ${whenBest}`);
  } else if (at >= 0) {
    const measured = data.metrics.val_loss[at] !== null;
    addTile(measured ? "Validation loss" : "Training loss",
            short((measured ? data.metrics.val_loss : data.metrics.train_loss)[at]), whenBest);
    if (data.metrics.val_psnr[at] !== null) addTile("PSNR", `${short(data.metrics.val_psnr[at])} dB`, "the same epoch");
    if (data.metrics.val_ssim[at] !== null) addTile("SSIM", short(data.metrics.val_ssim[at]), "the same epoch");
  }
  if (last >= 0) {
    addTile("Steps", String(data.metrics.step[last]), data.skipped_steps > 0 ? `${data.skipped_steps} left out, not finite` : "");
    addTile("Images/s", short(data.metrics.images_per_s[last], 3), `${duration(data.metrics.seconds[last])} the last epoch`);
  }
  const {latent, input} = data.model;
  if (latent) addTile("Latent", shape(latent), `${product(latent)} numbers for ${product(input)}`);
  addTile("Parameters", data.model.parameters.toLocaleString("en"));
}

// ---- Curves -----------------------------------------------------------------------------------

function logTicks(low, high, factors = [1, 2, 5]) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power) {
    for (const f of factors) {
      const tick = Number((f * 10 ** power).toPrecision(6));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks.length > 7 && factors.length > 1 ? logTicks(low, high, [1]) : ticks;
}

/** Where values go on the vertical axis: [from, to], its ticks, and value → share from below. */
function verticalScale(values, fromZero) {
  let low = Math.min(...values), high = Math.max(...values);
  const logarithmic = !fromZero && low > 0 && high / low > 10;
  if (logarithmic) {
    [low, high] = [low / 1.15, high * 1.15];
    const span = Math.log(high / low);
    return {logarithmic, ticks: logTicks(low, high), share: (v) => Math.log(v / low) / span};
  }
  if (fromZero) low = Math.min(0, low);
  if (high === low) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const slack = (high - low) * 0.05;
  high += slack;
  if (!fromZero) low -= slack;
  return {logarithmic, ticks: linearTicks(low, high, 5), share: (v) => (v - low) / (high - low)};
}

class Chart {
  /** series: [{label, values, style: "first" | "second"}]; values may be null. */
  constructor({title, unit = "", series, fromZero = false, wide = false}) {
    this.title = title;
    this.unit = unit;
    this.series = series.filter((s) => s.values.some((v) => v !== null));
    if (this.series.length === 0) return;
    this.scale = verticalScale(this.series.flatMap((s) => s.values.filter((v) => v !== null)), fromZero);
    this.build(wide);
  }

  build(wide) {
    this.plot = makePlot((room) => this.paint(room), {
      class: "plot", tabindex: "0", role: "slider", "aria-label": this.summary(),
      "aria-valuemin": epochs[0], "aria-valuemax": epochs[last]});
    this.reading = make("p", {class: "reading"});
    const heading = make("h3", {}, this.title + (this.unit ? ` (${this.unit})` : "") + (this.scale.logarithmic ? ", logarithmic" : ""));
    const caption = make("figcaption", {}, heading);
    if (this.series.length > 1) caption.append(makeLegend(this.series));
    byId("charts").append(make("figure", {class: wide ? "chart wide" : "chart"}, caption, this.plot, this.reading));
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.choose(last);
  }

  summary() {
    const parts = this.series.map(({label, values}) => {
      const known = values.filter((v) => v !== null);
      return `${label} from ${short(known[0])} to ${short(known[known.length - 1])}`;
    });
    return `${this.title}${this.unit ? " in " + this.unit : ""} by epoch: ${parts.join("; ")}. Arrow keys read single epochs.`;
  }

  choose(index) {
    this.index = Math.max(0, Math.min(last, index));
    const values = this.series.map((s) => `${s.label} ${short(s.values[this.index])}`).join(" · ");
    const best = epochs[this.index] === data.best_epoch ? " (the best)" : "";
    this.reading.textContent = `epoch ${epochs[this.index]}${best}: ${values}${this.unit ? " " + this.unit : ""}`;
    this.plot.setAttribute("aria-valuenow", epochs[this.index]);
    this.plot.setAttribute("aria-valuetext", this.reading.textContent);
    if (this.cursor) this.placeCursor();
  }

  point(event) {
    const box = this.plot.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    const epoch = epochs[0] + share * (epochs[last] - epochs[0]);
    let nearest = 0;
    epochs.forEach((e, i) => { if (Math.abs(e - epoch) < Math.abs(epochs[nearest] - epoch)) nearest = i; });
    this.choose(nearest);
  }

  key(event) {
    const to = {ArrowLeft: this.index - 1, ArrowDown: this.index - 1, ArrowRight: this.index + 1,
                ArrowUp: this.index + 1, Home: 0, End: last}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(to);
  }

  xOf(epoch) {
    const span = epochs[last] - epochs[0];
    return MARGIN.left + (span === 0 ? 0.5 : (epoch - epochs[0]) / span) * this.room.width;
  }

  x(index) { return this.xOf(epochs[index]); }

  y(value) { return MARGIN.top + (1 - this.scale.share(value)) * this.room.height; }

  paint(room) {
    this.room = room;
    const svg = draw("svg", {"aria-hidden": "true"}), span = epochs[last] - epochs[0];
    const wanted = Math.min(span, Math.max(2, Math.floor(room.width / 70)));
    drawAxes(svg, room, {
      xTicks: span === 0 ? [epochs[0]] : linearTicks(epochs[0], epochs[last], wanted).filter(Number.isInteger),
      x: (epoch) => this.xOf(epoch), yTicks: this.scale.ticks, y: (value) => this.y(value)});
    const best = epochs.indexOf(data.best_epoch);
    if (best >= 0) svg.append(draw("line", {class: "best", x1: this.x(best), x2: this.x(best), y1: MARGIN.top, y2: room.bottom}));
    for (const series of this.series) this.paintSeries(svg, series);
    this.cursor = draw("line", {class: "cursor", y1: MARGIN.top, y2: room.bottom});
    svg.append(this.cursor);
    this.placeCursor();
    return svg;
  }

  paintSeries(svg, {values, style}) {
    let path = "", pen = "M";
    values.forEach((value, i) => {
      if (value === null) { pen = "M"; return; }
      path += `${pen}${this.x(i).toFixed(1)},${this.y(value).toFixed(1)}`;
      pen = "L";
      if (values.length <= 30) svg.append(draw("circle", {class: style, cx: this.x(i), cy: this.y(value), r: 3}));
    });
    svg.append(draw("path", {class: `line ${style}`, d: path}));
  }

  placeCursor() {
    this.cursor.setAttribute("x1", this.x(this.index));
    this.cursor.setAttribute("x2", this.x(this.index));
  }
}

function showCurves() {
  const metrics = data.metrics;
  const notes = [];
  if (last < 0) notes.push("No epoch is complete yet.");
  if (last >= 0 && metrics.val_loss.every((v) => v === null)) {
    notes.push("There are no validation images, so PSNR and SSIM are not measured and the best epoch is that of the lowest training loss.");
  }
  if (data.rows > epochs.length) notes.push(`${epochs.length} of ${data.rows} epochs are shown, spread evenly; metrics.csv has all.`);
  if (epochs.includes(data.best_epoch)) notes.push(`The dotted line is the best epoch, ${data.best_epoch}.`);
  byId("curves-note").textContent = notes.join(" ");
  if (last < 0) return;
  new Chart({title: "Loss", wide: true, series: [
    {label: "training", values: metrics.train_loss, style: "first"},
    {label: "validation", values: metrics.val_loss, style: "second"}]});
  const single = (title, unit, values, fromZero) =>
    new Chart({title, unit, fromZero, series: [{label: title, values, style: "first"}]});
  single("PSNR", "dB", metrics.val_psnr, false);
  single("SSIM", "", metrics.val_ssim, false);
  single("Learning rate", "", metrics.lr, true);
  single("Speed", "images/s", metrics.images_per_s, true);
  showMetricsTable();
}

function paintRateTest(room) {
  const {rates, losses, chosen} = data.rate_test;
  const end = rates.length - 1, span = Math.log(rates[end] / rates[0]);
  const scale = verticalScale(losses, false);
  const x = (rate) => MARGIN.left + Math.log(rate / rates[0]) / span * room.width;
  const y = (loss) => room.bottom - scale.share(loss) * room.height;
  const svg = draw("svg", {role: "img", "aria-label":
    `Loss by learning rate, from ${short(rates[0])} to ${short(rates[end])}; the run's is ${short(chosen)}. The table below has all steps.`});
  drawAxes(svg, room, {xTicks: logTicks(rates[0], rates[end], [1]), x,
                       yTicks: scale.ticks, y});
  svg.append(draw("path", {class: "line first", d: `M${rates.map((rate, i) => `${x(rate).toFixed(1)},${y(losses[i]).toFixed(1)}`).join("L")}`}));
  if (chosen >= rates[0] && chosen <= rates[end]) {
    svg.append(draw("line", {class: "best", x1: x(chosen), x2: x(chosen), y1: MARGIN.top, y2: room.bottom}));
  }
  return svg;
}

function showRateTest() {
  if (data.rate_test === null) return;
  const {rates, losses, chosen} = data.rate_test;
  byId("rate-test").hidden = false;
  byId("rate-test-note").textContent =
    `The loss of a copy of the network over ${rates.length} steps at rising rates, before the training. The dotted line is the run's rate, ${short(chosen)}.`;
  const table = fillTable(make("table"), "As in lr_test.csv", ["lr", "loss"],
                          rates.map((rate, i) => [short(rate), short(losses[i])]));
  byId("rate-test").append(make("figure", {}, makePlot(paintRateTest)),
                           numbersBelow("The steps as a table", "Steps of the test", table));
}

function showMetricsTable() {
  const names = Object.keys(data.metrics);
  fillTable(byId("metrics"), "One row an epoch, as in metrics.csv", names,
            epochs.map((_, i) => names.map((name) => short(data.metrics[name][i], 5))));
}

// ---- Pictures ---------------------------------------------------------------------------------

const PARTS = ["input", "reconstruction", "error"];

function quality(image) {
  const parts = [];
  if (image.psnr !== null) parts.push(`PSNR ${short(image.psnr)} dB`);
  if (image.ssim !== null) parts.push(`SSIM ${short(image.ssim, 3)}`);
  return parts.join(" · ");
}

/** A card of one image's three pictures; show() puts another epoch's into it. */
class Card {
  constructor(parent) {
    this.title = make("h3");
    this.quality = make("p", {class: "quality"});
    this.pictures = PARTS.map(() => make("img"));
    const parts = make("div", {class: "parts"});
    this.pictures.forEach((picture, i) => parts.append(make("figure", {}, picture, make("figcaption", {}, PARTS[i]))));
    this.element = make("article", {class: "card"}, this.title, parts, this.quality);
    parent.append(this.element);
  }

  show(image, epoch) {
    const [width, height] = image.size;
    this.title.textContent = image.name;
    this.quality.textContent = `${width}×${height} · ${quality(image)}`;
    const of = {input: "Input", reconstruction: `Reconstruction after epoch ${epoch}`, error: `Error after epoch ${epoch}`};
    this.pictures.forEach((picture, i) => {
      picture.src = data.pictures[image.parts[i]];
      picture.alt = `${of[PARTS[i]]}: ${image.name}`;
      picture.style.aspectRatio = `${width} / ${height}`;
      picture.classList.toggle("small", Math.max(width, height) <= 56);
    });
  }
}

const samples = data.samples.filter((sample) => sample.images.length > 0);
let cards = [];

function showSample(index) {
  const {epoch, images} = samples[index];
  while (cards.length < images.length) cards.push(new Card(byId("sample-cards")));
  cards.forEach((card, i) => {
    card.element.hidden = i >= images.length;
    if (i < images.length) card.show(images[i], epoch);
  });
  byId("epoch").value = index;
  byId("epoch").setAttribute("aria-valuetext", `epoch ${epoch}`);
  byId("epoch-text").textContent = `${epoch} of ${data.epochs}`;
}

function play() {
  const button = byId("play");
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
    button.setAttribute("aria-pressed", "false");
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    let index = Number(byId("epoch").value);
    if (index === samples.length - 1) index = -1;
    const step = () => {
      showSample(++index);
      if (index === samples.length - 1) stop();
    };
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    timer = setInterval(step, 600);
    step();
  });
}

function showSamples() {
  if (samples.length === 0) {
    byId("samples-note").textContent = "There are no sample pictures yet.";
    return;
  }
  byId("samples-note").textContent =
    `The same ${many(samples[samples.length - 1].images.length, "image")} after ${many(samples.length, "epoch")}` +
    `${data.validation.images > 0 ? "; the network is not trained on them" : ", from the training images"}.`;
  byId("slider").hidden = samples.length < 2;
  byId("epoch").max = samples.length - 1;
  byId("epoch").addEventListener("input", () => { showSample(Number(byId("epoch").value)); remember(); });
  play();
  const epoch = Number(recall("epoch"));
  const place = samples.findIndex((sample) => sample.epoch === epoch);
  showSample(place >= 0 ? place : samples.length - 1);
}

function showExtremes(title, picture) {
  if (picture === null || picture.images.length === 0) return;
  const place = make("div", {class: "cards"});
  byId("extremes").append(make("h3", {}, title), place);
  for (const image of picture.images) new Card(place).show(image, picture.epoch);
}

function showDefects() {
  if (!data.defects) return;
  byId("defects").hidden = false;
  byId("defects").append(make("img", {src: data.defects, alt:
    "Eight pictures with drawn defects, one of each kind, each beside a map of how much it changed"}));
}

// ---- Errors -----------------------------------------------------------------------------------

function paintHistogram(room) {
  const {start, width, counts} = data.validation.histogram;
  const most = Math.max(...counts), bar = room.width / counts.length, end = start + counts.length * width;
  const svg = draw("svg", {role: "img", "aria-label":
    `Histogram: most images, ${most}, have an error of ${binName(data.validation.histogram, counts.indexOf(most))}. The table below has all bars.`});
  drawAxes(svg, room, {
    xTicks: linearTicks(start, end, Math.max(2, Math.floor(room.width / 90))),
    x: (tick) => MARGIN.left + (tick - start) / (end - start) * room.width,
    yTicks: linearTicks(0, most, Math.min(most, 4)).filter(Number.isInteger),
    y: (count) => room.bottom - count / most * room.height});
  counts.forEach((count, i) => {
    const size = count / most * room.height;
    const rectangle = draw("rect", {class: "count", x: MARGIN.left + i * bar + 1, y: room.bottom - size, width: Math.max(1, bar - 2), height: size});
    rectangle.append(draw("title", {}, `${binName(data.validation.histogram, i)}: ${many(count, "image")}`));
    svg.append(rectangle);
  });
  return svg;
}

function showErrors() {
  const {epoch, images, histogram} = data.validation;
  if (histogram === null) {
    byId("errors-note").textContent = last >= 0 ? "There are no validation images to measure." : "Nothing is measured yet.";
    return;
  }
  byId("errors-note").textContent = `${many(images, "image")} after epoch ${epoch}: how many have which root mean squared error (the range of pixels is 0 to 1).`;
  const table = fillTable(make("table"), "Images by root mean squared error", ["error", "images"],
                          histogram.counts.map((count, i) => [binName(histogram, i), String(count)]),
                          (i) => (i === 0 ? "" : "number"));
  byId("histogram").append(make("figure", {}, makePlot(paintHistogram)),
                           numbersBelow("The bars as a table", "Bars of the histogram", table));
  showExtremes(`Smallest error, epoch ${epoch}`, data.best);
  showExtremes(`Largest error, epoch ${epoch}`, data.worst);
}

// ---- Network, settings, skipped files ---------------------------------------------------------

function showNetwork() {
  const {input, latent, levels, settings} = data.model;
  byId("network-note").textContent =
    `An image of ${shape(input)} (channels, height, width) ${latent ? `becomes a latent of ${shape(latent)} and ` : ""}comes back at exactly its size. Other sizes have an output_padding of their own, from the same weights.`;
  const rows = levels.map(({conv, convT}, i) => [
    String(i + 1), `${shape(conv.in)} → ${shape(conv.out)}`, settings[i],
    `${shape(convT.in)} → ${shape(convT.out)}`, convT.output_padding.join(", "), shape(convT.without)]);
  fillTable(byId("levels"), "The encoder's order; k kernel, s stride, p padding, d dilation, r residual blocks",
            ["level", "convolution", "settings", "transposed convolution", "output_padding", "without it"],
            rows, () => "");
}

function showSettings() {
  const commands = byId("commands");
  if (data.commands.length > 1) commands.append(make("p", {class: "note"}, "Called one after the other:"));
  for (const command of data.commands) {
    const words = command.split(" ").flatMap((word) => [" ", make("span", {}, word)]).slice(1);
    commands.append(make("pre", {class: "command", tabindex: "0", role: "group", "aria-label": "Command"}, ...words));
  }
  byId("config").textContent = data.config;
}

function showSkipped() {
  const {count, files} = data.skipped;
  byId("skipped-note").textContent = count === 0 ? "None." :
    `${many(count, "file was", "files were")} left out${count > files.length ? `; the first ${files.length} are` : ""}:`;
  if (count === 0) return;
  byId("skipped-files").hidden = false;
  fillTable(byId("skipped-table"), "As in skipped.csv", ["file", "reason"], files, () => "name");
}

// ---- Watching a run ---------------------------------------------------------------------------

// What a reload should find again; a browser may refuse to keep it.
function recall(what) { try { return sessionStorage.getItem(`convae-${what}`); } catch { return null; } }
function keep(what, value) { try { sessionStorage.setItem(`convae-${what}`, value); } catch { /* no matter */ } }

/** The latest epoch stays the latest; any other that was chosen stays chosen. */
function remember() {
  const index = Number(byId("epoch").value);
  keep("epoch", index === samples.length - 1 ? "" : samples[index].epoch);
}

function watch() {
  const box = byId("reload");
  let timer = null;
  const plan = () => {
    clearTimeout(timer);
    if (box.checked) timer = setTimeout(() => location.reload(), 10000);
  };
  box.checked = data.state === "running" && recall("reload") === "yes";
  box.addEventListener("change", () => { keep("reload", box.checked ? "yes" : ""); plan(); });
  plan();
}

showHeading();
showTiles();
showCurves();
showRateTest();
showSamples();
showDefects();
showErrors();
showNetwork();
showSettings();
showSkipped();
watch();
