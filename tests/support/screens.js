// What screens.py asks of a page. Colours are those that the browser computes, read back from a canvas as sRGB.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const known = new Map();
function colour(text) { // [r, g, b, a], 0 to 255, a 0 to 1
  if (!known.has(text)) {
    canvas.canvas.width = canvas.canvas.height = 1; // clears it
    canvas.fillStyle = "#000";
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    known.set(text, [r, g, b, a / 255]);
  }
  return known.get(text);
}
const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
function luminance([r, g, b]) { // WCAG 2.2, relative luminance
  const part = (v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
}
function contrast(one, two) {
  const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
function shown(element) {
  const box = element.getBoundingClientRect();
  return box.width > 1 && box.height > 1 && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
}
function name(element) {
  const id = element.id ? `#${element.id}` : "";
  const kind = typeof element.className === "string" && element.className ? `.${element.className.trim().split(/\s+/)[0]}` : "";
  const text = (element.getAttribute("aria-label") || element.textContent || "").trim().replace(/\s+/g, " ").slice(0, 40);
  return `${element.tagName.toLowerCase()}${id}${kind} "${text}"`;
}
function* above(element) {
  for (let at = element; at; at = at.parentElement) yield at;
}

function tooWide() {
  const width = document.documentElement.clientWidth, found = [];
  for (const element of document.body.querySelectorAll("*")) {
    if (!shown(element) || element.ownerSVGElement) continue;
    let { left, right } = element.getBoundingClientRect();
    for (const box of above(element.parentElement)) {
      if (box === document.body || box === document.documentElement) break;
      const flow = getComputedStyle(box).overflowX;
      if (flow === "visible") continue;
      const frame = box.getBoundingClientRect();
      left = Math.max(left, frame.left);
      right = Math.min(right, frame.right);
    }
    if (right - left > 1 && (right > width + 1 || (left < -1 && right > 0))) found.push(`${name(element)}: ${Math.round(left)} to ${Math.round(right)} of ${width} px`);
  }
  if (document.documentElement.scrollWidth > width + 1) found.push(`the page itself: ${document.documentElement.scrollWidth} of ${width} px`);
  return found;
}

function behind(element) { // the colour painted behind a text, or null where a picture is
  const layers = [];
  for (const box of above(element)) {
    const style = getComputedStyle(box);
    if (style.backgroundImage !== "none") return null;
    layers.push(colour(style.backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  const probe = document.createElement("i");
  probe.style.color = "Canvas";
  document.documentElement.append(probe);
  const page = colour(getComputedStyle(probe).color);
  probe.remove();
  return layers.reverse().reduce((below, layer) => over(layer, below), page);
}

function faintText() {
  const found = new Set();
  function judge(element, style, text) {
    const back = behind(element);
    if (!back || !text.trim()) return;
    const opacity = [...above(element)].reduce((product, box) => product * getComputedStyle(box).opacity, 1);
    const [r, g, b, a] = colour(element.ownerSVGElement ? style.fill : style.color);
    const ratio = contrast(over([r, g, b, a * opacity], back), back);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5) - 0.005) found.add(`${name(element)}: ${ratio.toFixed(2)} to 1`);
  }
  for (const element of document.body.querySelectorAll("*")) {
    if (!shown(element) || element.closest(":disabled, [aria-disabled=true], script, style, option")) continue;
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join("");
    judge(element, getComputedStyle(element), own);
    if (element.matches("input, textarea, select")) judge(element, getComputedStyle(element), element.value || "");
    if (element.placeholder && !element.value) judge(element, getComputedStyle(element, "::placeholder"), element.placeholder);
    for (const part of ["::before", "::after"]) {
      const style = getComputedStyle(element, part);
      if (/["']/.test(style.content)) judge(element, style, style.content.replaceAll(/^["']|["']$/g, ""));
    }
  }
  return [...found];
}

const WIDGETS = "a[href], button, input:not([type=hidden]), select, textarea, summary, iframe, video[controls], [tabindex], [contenteditable=true], [onclick], "
  + "[role=button], [role=link], [role=tab], [role=switch], [role=checkbox], [role=menuitem], [role=option], [role=slider], [role=textbox]";
const GROUPS = "[role=tablist], [role=menu], [role=menubar], [role=listbox], [role=radiogroup], [role=toolbar], [role=grid], [role=treegrid], [role=tree]";
const LOOK = ["boxShadow", "backgroundColor", "color", "textDecorationLine", "borderTopColor", "borderBottomColor", "borderLeftColor",
  "borderBottomWidth"];
function ring(style) { // colour and width of an outline count only where one is drawn
  return style.outlineStyle === "none" || parseFloat(style.outlineWidth) === 0 ? "" : `${style.outlineStyle} ${style.outlineWidth} ${style.outlineColor}`;
}
const look = (element) => [element, element.closest("label"), element.parentElement].filter(Boolean)
  .map((one) => getComputedStyle(one)).map((style) => [ring(style), ...LOOK.map((key) => style[key])].join("|"));
let plain = new Map(), reached = new Map(), first = null, round = false, watching = false;

function watchFocus() {
  const still = document.createElement("style");
  still.textContent = "*, ::before, ::after { transition: none !important; animation: none !important; scroll-behavior: auto !important; }";
  document.head.append(still);
  document.activeElement?.blur?.();
  getSelection().removeAllRanges();
  window.scrollTo(0, 0);
  plain = new Map(), reached = new Map(), first = null, round = false;
  for (const element of document.querySelectorAll("*")) if (element.matches(WIDGETS) || scroller(element)) plain.set(element, look(element));
  if (watching) return; // a page that is asked again, after a click, has the listener already
  watching = true;
  document.addEventListener("focusin", ({ target }) => {
    if (round ||= target === first) return;
    first ||= target;
    const before = plain.get(target), after = look(target);
    const ringed = ring(getComputedStyle(target)) !== "";
    const { left, right, top, bottom } = target.getBoundingClientRect();
    const inside = right > 0 && bottom > 0 && left < innerWidth && top < innerHeight && right > left && bottom > top;
    const middle = document.elementFromPoint((Math.max(left, 0) + Math.min(right, innerWidth)) / 2, (Math.max(top, 0) + Math.min(bottom, innerHeight)) / 2);
    const covered = inside && middle && !target.contains(middle) && !middle.contains(target) && middle.closest("label")?.control !== target
      && [...above(middle)].some((box) => ["fixed", "sticky"].includes(getComputedStyle(box).position));
    let fault = null;
    if (!inside) fault = "has the focus outside the window";
    else if (covered) fault = `has the focus behind ${name(middle)}`;
    else if (!ringed && before && before.join() === after.join()) fault = "does not show the focus";
    reached.set(target, fault);
  }, true);
}
function scroller(element) {
  const style = getComputedStyle(element);
  const scrolls = (flow, size, room) => (flow === "auto" || flow === "scroll") && size > room + 1;
  return element !== document.documentElement && element !== document.body
    && (scrolls(style.overflowX, element.scrollWidth, element.clientWidth) || scrolls(style.overflowY, element.scrollHeight, element.clientHeight));
}
const wentRound = () => round || (first !== null && (document.activeElement === document.body || document.activeElement === null));

function focusFaults() {
  const found = [...reached].filter(([, fault]) => fault).map(([element, fault]) => `${name(element)} ${fault}`);
  const holds = (box) => [...reached.keys()].some((element) => box.contains(element));
  for (const element of plain.keys()) {
    if (reached.has(element) || !element.isConnected || !shown(element) || element.closest("[inert], :disabled, [aria-disabled=true]")) continue;
    if (scroller(element) && !element.matches(WIDGETS)) {
      if (!holds(element)) found.push(`${name(element)} scrolls and is not reached`);
      continue;
    }
    if (element.type === "radio" && [...reached.keys()].some((one) => one.type === "radio" && one.name === element.name)) continue;
    const group = element.closest(GROUPS);
    if (group && holds(group)) continue;
    const clickable = element.matches(WIDGETS.replace(", [tabindex]", "")) || getComputedStyle(element).cursor === "pointer";
    if (!clickable || holds(element)) continue; // a focus that only a script sets, or a frame around what is reached
    found.push(`${name(element)} is not reached`);
  }
  for (const element of document.body.querySelectorAll("*")) { // a click that no widget and no label takes
    if (getComputedStyle(element).cursor !== "pointer" || !shown(element) || getComputedStyle(element.parentElement).cursor === "pointer") continue;
    if (element.closest(`${WIDGETS}, label, [inert]`) || holds(element)) continue;
    found.push(`${name(element)} looks clickable and is not reached`);
  }
  return found;
}
window.looked = { tooWide, faintText, watchFocus, wentRound, focusFaults };
