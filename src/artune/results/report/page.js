// Conveniences: without them everything on the page can still be read. No other file, no network.
"use strict";
const root = document.documentElement;
root.classList.add("js");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
function make(tag, settings, ...children) {
  const element = Object.assign(document.createElement(tag), settings);
  element.append(...children);
  return element;
}

// -- contents: a bar on a narrow window, always open on a broad one; the section that is being read is marked
const contents = document.querySelector(".contents"), narrow = matchMedia("(max-width: 68rem)");
const fold = () => { contents.open = !narrow.matches; };
narrow.addEventListener("change", fold);
fold();
contents.addEventListener("click", (event) => { if (narrow.matches && event.target.closest("a")) contents.open = false; });
contents.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !narrow.matches) return;
  contents.open = false;
  contents.querySelector("summary").focus();
});
const entries = new Map(all(".contents > ol > li > a").map((link) => [link.hash.slice(1), link]));
const reading = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) if (isIntersecting) {
    entries.forEach((link) => link.removeAttribute("aria-current"));
    entries.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-10% 0% -85% 0%" });
all("main > section").forEach((section) => reading.observe(section));

// -- an address inside something folded unfolds it
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  if (target.closest(".claim[hidden]")) filter("");
  if (target.closest("[hidden]")) show(null);
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS" && at !== contents) at.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);

// -- boxes that scroll can be reached by keyboard
const sized = new ResizeObserver((boxes) => {
  for (const { target } of boxes) {
    const scrolls = target.scrollWidth > target.clientWidth + 1 || target.scrollHeight > target.clientHeight + 1;
    for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", target.dataset.name]])
      if (scrolls) target.setAttribute(name, value); else target.removeAttribute(name);
  }
});
all("[data-name]").forEach((box) => sized.observe(box));

// -- claims by verdict
const claims = all(".claim").map((claim) => [claim, new Map(claim.dataset.verdicts.split(";").filter(Boolean).map((pair) => pair.split("=")))]);
const verdicts = all(".totals thead .verdict").map((label) => label.cloneNode(true));
const columns = [...new Set(claims.flatMap(([, found]) => [...found.keys()]))];
const sides = { as_paper: "as the paper measures", by_judges: "by judges that no reward saw" };
const place = document.getElementById("filter");
const column = make("select", { id: "column" }), pressed = new Map(), count = make("span", { className: "count" });
count.setAttribute("role", "status");
const scales = new Set(columns.map((name) => name.split(" ")[0]));
for (const name of columns) {
  const [scale, side] = name.split(" ");
  column.append(new Option((scales.size > 1 ? `${scale}, ` : "") + sides[side], name));
}
if (columns.length) column.value = columns.find((name) => name.endsWith("by_judges"));
function button(label, chosen) {
  const made = make("button", { type: "button" }, ...(typeof label === "string" ? [label] : [...label.childNodes].map((node) => node.cloneNode(true))), make("b"));
  made.addEventListener("click", () => filter(chosen));
  pressed.set(chosen, made);
  return made;
}
const verdict = (found) => found.get(column.value) ?? "not judged yet";
function filter(chosen) {
  let shown = 0;
  for (const [claim, found] of claims) {
    claim.hidden = chosen !== "" && verdict(found) !== chosen;
    shown += !claim.hidden;
  }
  for (const [name, made] of pressed) {
    made.setAttribute("aria-pressed", name === chosen);
    made.lastChild.textContent = ` ${name === "" ? claims.length : claims.filter(([, found]) => verdict(found) === name).length}`;
  }
  count.textContent = `${shown} of ${claims.length} claims shown`;
}
if (columns.length) {
  const buttons = make("div", { className: "choices" }, button("all", ""), ...verdicts.map((label) => button(label, label.textContent.trim().replace(/^\S+\s+/, ""))));
  if (claims.some(([, found]) => found.size < columns.length)) buttons.append(button("not judged yet", "not judged yet"));
  buttons.setAttribute("role", "group");
  buttons.setAttribute("aria-label", "Claims by verdict");
  place.append(make("label", { htmlFor: "column" }, "Verdict "), column, buttons, count);
  column.addEventListener("change", () => filter([...pressed].find(([, made]) => made.getAttribute("aria-pressed") === "true")[0]));
  filter("");
  all("a[data-verdict]").forEach((link) => link.addEventListener("click", () => {
    column.value = link.dataset.column;
    filter(link.dataset.verdict);
  }));
}

// -- a run's link to a CSV downloads it; without this it leads to the table that has the CSV
for (const link of all("a[data-csv]")) {
  const { href, download } = document.getElementById(link.dataset.csv).querySelector("a[download]");
  Object.assign(link, { href, download });
}

// -- one scale at a time
const parts = [...new Set(all("[data-scale]").map((element) => element.dataset.scale))], choices = new Map();
function show(scale) {
  all("[data-scale]").forEach((element) => { element.hidden = scale !== null && element.dataset.scale !== scale; });
  choices.forEach((made, name) => made.setAttribute("aria-pressed", name === scale));
}
if (parts.length > 1) {
  const group = make("div", { className: "choices scales" }, make("span", {}, "Show"));
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Scales that are shown");
  for (const [name, label] of [[null, "all"], ...parts.map((scale) => [scale, scale])]) {
    const made = make("button", { type: "button" }, label);
    made.addEventListener("click", () => show(name));
    choices.set(name, made);
    group.append(made);
  }
  contents.querySelector("summary").after(group);
  show(null);
}

// -- tables sorted by a column: ascending, descending, as they were
for (const table of all("table.sortable")) {
  const body = table.tBodies[0], rows = [...body.rows], headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, at) => {
    const press = make("button", { type: "button", title: "Sort by this column" }, ...heading.childNodes);
    heading.append(press);
    press.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[heading.ariaSort || "none"];
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") heading.setAttribute("aria-sort", next);
      const text = at < table.dataset.labels || !rows.some((row) => "value" in row.cells[at].dataset), sign = next === "descending" ? -1 : 1;
      const value = (row) => text ? row.cells[at].textContent.trim() : row.cells[at].dataset.value;
      const order = (one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === undefined || b === undefined) return (a === undefined) - (b === undefined); // empty cells come last
        return sign * (text ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      };
      body.append(...(next === "none" ? rows : [...rows].sort(order)));
      table.classList.toggle("sorted", next !== "none");
    });
  });
}

// -- figures enlarged
const large = make("img", { alt: "" }), caption = make("p", {});
const close = make("button", { type: "button", className: "close" }, "Close");
const frame = make("div", { className: "frame" }, large);
const zoom = make("dialog", { className: "zoom" }, make("div", { className: "bar" }, caption, close), frame);
document.body.append(zoom);
close.addEventListener("click", () => zoom.close());
zoom.addEventListener("click", (event) => { if (event.target === zoom || event.target === frame) zoom.close(); });
large.addEventListener("click", () => frame.classList.toggle("full"));
for (const picture of all("figure img")) {
  const open = make("button", { type: "button", className: "enlarge" });
  open.setAttribute("aria-label", `Enlarge ${picture.alt}`);
  picture.replaceWith(open);
  open.append(picture);
  open.addEventListener("click", () => {
    frame.classList.remove("full");
    Object.assign(large, { src: picture.src, alt: picture.alt });
    caption.textContent = picture.alt;
    zoom.showModal();
  });
}
unfold();
