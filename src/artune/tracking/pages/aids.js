// What MLflow leaves to the mouse. Put in by app.py.
"use strict";
const HANDLES = "[role=button][aria-label='Resize Column']"; // between the columns of a run's tables
const SCROLLERS = ".ag-body-horizontal-scroll-viewport"; // below the list of runs

let waiting = false;
function reachable() {
  waiting = false;
  for (const element of document.querySelectorAll(`${HANDLES}, ${SCROLLERS}`)) element.tabIndex = 0;
}
new MutationObserver(() => {
  if (!waiting) requestAnimationFrame(reachable);
  waiting = true;
}).observe(document, { childList: true, subtree: true });

document.addEventListener("keydown", (event) => { // a click on a handle opens buttons that make the column narrower and wider
  if (!["Enter", " "].includes(event.key) || !event.target.matches?.(HANDLES)) return;
  event.preventDefault();
  event.target.click();
});

window.addEventListener("keydown", (event) => { // the slider of the samples swallows Tab, so the focus could never leave it
  if (event.key === "Tab" && event.target.matches?.("[role=slider]")) event.stopImmediatePropagation();
}, true);
