// Each slide gets the largest text and code with which it fits, then its figure the room that is left.
// Text is never smaller than 24 points of 1280 x 720, code never smaller than 20: what is too long then is cut off,
// and tests/browser/test_slides.py says so.
function fit(slide) {
  const frame = slide.getBoundingClientRect();
  const bottom = () => Math.max(...[...slide.children].map((e) => e.getBoundingClientRect().bottom), frame.top);
  const room = () => frame.top + 720 - 36 - bottom();
  const wide = () => [...slide.querySelectorAll("pre, table")].some((e) => e.scrollWidth > e.clientWidth + 1
    || e.getBoundingClientRect().right > frame.left + 1280 - 30);
  const figures = [...slide.querySelectorAll(".jp-OutputArea img")];
  const set = (name, value) => slide.style.setProperty(name, `${value}px`);
  let widest = 28; // the largest code whose lines fit
  for (set("--code", widest); widest > 20 && wide(); set("--code", widest)) widest -= 1;
  for (const figure of figures.length ? [360, 300, 240] : [0]) {
    set("--figure", figure);
    for (let text = 32; text >= 24; text -= 1) {
      set("--text", text);
      set("--code", Math.min(widest, Math.max(20, text - 4)));
      if (room() >= 0 && !wide()) break;
    }
    if (room() >= 0) break;
  }
  const spare = Math.max(0, room()) / figures.length;
  for (const figure of figures) { // as high as there is room, and no wider than the slide
    const { width, height } = figure.getBoundingClientRect();
    figure.style.maxHeight = "none";
    figure.style.height = `${Math.min(height + spare, height * 1216 / width)}px`;
  }
}

document.documentElement.classList.add("fitting"); // reveal.js hides slides, and what is hidden has no size
const slides = document.querySelectorAll(".slides > section > section");
document.fonts.ready
  .then(() => Promise.all([...document.fonts].map((font) => font.load())))
  .then(() => Promise.all([...document.images].map((image) => image.decode().catch(() => {}))))
  .then(() => slides.forEach(fit))
  .then(() => document.documentElement.classList.remove("fitting"))
  .then(() => Reveal.initialize({
    width: 1280, height: 720, margin: 0, center: false, hash: true, slideNumber: "c/t", transition: "none",
    navigationMode: "linear", controlsTutorial: false, plugins: [RevealNotes],
  }))
  .then(() => { document.documentElement.dataset.ready = "yes"; });
