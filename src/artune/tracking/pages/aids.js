// What MLflow leaves to the mouse. Put in by app.py.
"use strict";
const HANDLES = "[role=button][aria-label='Resize Column']"; // between the columns of a run's tables
const SCROLLERS = ".ag-body-horizontal-scroll-viewport"; // below the list of runs
const STEP = 16; // pixels per press of an arrow key

let waiting = false;
function reachable() {
  waiting = false;
  for (const element of document.querySelectorAll(`${HANDLES}, ${SCROLLERS}`)) element.tabIndex = 0;
}
new MutationObserver(() => {
  if (!waiting) requestAnimationFrame(reachable);
  waiting = true;
}).observe(document, { childList: true, subtree: true });

document.addEventListener("keydown", (event) => { // the arrow keys drag a handle as the mouse does
  const handle = event.target.closest?.(HANDLES), step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
  if (!handle || !step) return;
  event.preventDefault();
  const { left, top } = handle.getBoundingClientRect();
  const drag = (target, kind, x) => target.dispatchEvent(new MouseEvent(kind, { clientX: x, clientY: top, bubbles: true }));
  drag(handle, "mousedown", left);
  drag(document, "mousemove", left + step);
  drag(document, "mouseup", left + step);
});

window.addEventListener("keydown", (event) => { // the slider of the samples swallows Tab, so the focus could never leave it
  if (event.key === "Tab" && event.target.matches?.("[role=slider]")) event.stopImmediatePropagation();
}, true);
