// The page of the human study. It knows positions and questions only; the server never sends which model is on which side.

const QUESTIONS = {
  "Realism": "Which image looks more realistic?",
  "Ref. Match": "Which image matches the real images better?",
};
const KEYS = {
  "1": "left", "ArrowLeft": "left", "2": "right", "ArrowRight": "right", "0": "tie", "ArrowDown": "tie",
};
const REST = 250; // milliseconds in which a new pair takes no answer and looks so: the second half of a double click is no vote
const CODE = /^[a-z2-9]{20}$/;
const byId = (id) => document.getElementById(id);

let code = null; // code of this rater
let now = null; // last state that the server sent
let shownAt = null; // when the current pair became visible; null while it loads
let busy = false; // an answer is on its way
let task = null; // task of the previous pair
let resting = null; // the timer that ends the rest of the current pair

function show(name) {
  for (const id of ["start", "rate", "finish"]) byId(id).hidden = id !== name;
}

function notice(text) {
  byId("notice").hidden = !text;
  byId("notice").textContent = text || "";
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Send a request, again and again until the server answers: a vote that is sent twice is stored once.
async function ask(path, body) {
  const options = { headers: { Authorization: `Bearer ${code ?? ""}` }, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    let answer = null;
    try {
      answer = await fetch(path, options);
    } catch { /* no answer */ }
    if (answer && answer.status < 500) {
      const value = await answer.json();
      if (answer.ok) {
        notice("");
        return value;
      }
      throw new Error(value.error || `the server answered ${answer.status}`);
    }
    notice("The server does not answer. Keep this page open: your last answer is sent as soon as it does.");
    await pause(wait);
  }
}

const address = (position, place) => `/image/${code}/${position}/${place}`;

function places(item) {
  return ["left", "right", ...Array(item.references).keys()].map((place) => address(item.position, place));
}

async function load(image, source) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    image.src = source;
    try {
      await image.decode();
      image.classList.toggle("tiny", image.naturalWidth < 128);
      return;
    } catch {
      notice("An image has not arrived yet. Trying again.");
      await pause(wait);
      image.removeAttribute("src");
    }
  }
}

// Fetch the images of the next pair in advance, so that they appear at once.
function preload(item) {
  for (const source of places(item)) new Image().src = source;
}

async function render(state) {
  now = state;
  byId("undo").disabled = state.last === null;
  byId("bar").max = Math.max(state.total, 1);
  byId("bar").value = state.done;
  byId("count").textContent = `${state.done} of ${state.total}`;
  for (const own of document.querySelectorAll(".own")) own.textContent = code.match(/.{5}/g).join("-");
  if (!state.waiting.length) return finish(state);
  const [item, next] = state.waiting;
  show("rate");
  shownAt = null;
  byId("rate").classList.add("waiting");
  delete byId("rate").dataset.position;
  byId("question").textContent = QUESTIONS[item.task];
  byId("question").classList.toggle("changed", task !== null && task !== item.task);
  task = item.task;
  const references = Array.from({ length: item.references }, (_, at) => {
    const image = new Image();
    image.alt = `Real image ${at + 1}`;
    return image;
  });
  byId("references").replaceChildren(...references);
  const images = [byId("left").firstElementChild, byId("right").firstElementChild, ...references];
  const sources = places(item);
  await Promise.all(images.map((image, at) => load(image, sources[at])));
  for (const choice of document.querySelectorAll(".choice")) choice.classList.remove("pressed");
  notice("");
  byId("rate").classList.remove("waiting");
  byId("rate").dataset.position = item.position; // the pair that can be answered
  shownAt = performance.now();
  rest();
  if (next) preload(next);
}

// Show for how long the new pair takes no answer: its frames and labels are pale.
function rest() {
  const choices = document.querySelectorAll(".choice");
  byId("rate").classList.add("resting");
  for (const choice of choices) choice.setAttribute("aria-disabled", "true");
  clearTimeout(resting);
  resting = setTimeout(() => {
    byId("rate").classList.remove("resting");
    for (const choice of choices) choice.removeAttribute("aria-disabled");
  }, REST);
}

function finish(state) {
  show("finish");
  byId("finished").textContent = `You have given ${state.done} answers.`;
  byId("more").hidden = !state.more;
  byId("back").hidden = state.last === null;
  byId("finish").querySelector("h1").focus();
}

// One request at a time; clicks and keys in the meantime are ignored.
async function act(request) {
  if (busy) return;
  busy = true;
  try {
    await render(await request());
  } catch (error) {
    await lost(error);
  } finally {
    busy = false;
  }
}

// The server refused a request: this page is behind (the rater continued in another tab), or the code is unknown.
async function lost(error) {
  try {
    await render(await ask("/api/session"));
    notice(`That answer was not stored: ${error.message}.`);
  } catch (second) {
    begin(second.message);
  }
}

function vote(pressed) {
  if (busy || shownAt === null || performance.now() - shownAt < REST) return;
  const seconds = (performance.now() - shownAt) / 1000;
  const position = now.waiting[0].position;
  byId(pressed).classList.add("pressed");
  act(() => ask("/api/votes", { position, pressed, seconds }));
}

function undo() {
  if (busy || now === null || now.last === null) return;
  const position = now.last;
  act(() => ask("/api/undo", { position }));
}

function begin(message) {
  code = null;
  now = null;
  notice(message);
  show("start");
}

async function enter(text) {
  const plain = text.toLowerCase().replace(/[\s-]/g, "");
  if (!CODE.test(plain)) return begin("That is not a code. A code has 20 letters and digits, like abcde-fghjk-mnpqr-stuvw.");
  code = plain;
  try {
    const state = await ask("/api/session");
    keep();
    await render(state);
  } catch (error) {
    history.replaceState(null, "", location.pathname);
    begin(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
  }
}

// Keep the code in the address after #, which browsers never send; a reload or a bookmark continues the session.
function keep() {
  if (location.hash !== `#${code}`) history.replaceState(null, "", `#${code}`);
}

async function join() {
  if (busy) return;
  busy = true;
  try {
    const state = await ask("/api/raters", {});
    code = state.code;
    keep();
    await render(state);
  } catch (error) {
    begin(`This did not work: ${error.message}.`);
  } finally {
    busy = false;
  }
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copy the address of this page";
  }
}

byId("join").addEventListener("click", join);
byId("resume").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(byId("code").value);
});
for (const choice of document.querySelectorAll(".choice")) {
  choice.addEventListener("click", () => vote(choice.dataset.pressed));
}
byId("undo").addEventListener("click", undo);
byId("back").addEventListener("click", undo);
byId("more").addEventListener("click", () => act(() => ask("/api/more", {})));
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target instanceof HTMLInputElement) return;
  if (event.key === "u" || event.key === "U") undo();
  else if (!byId("rate").hidden && event.key in KEYS) {
    event.preventDefault();
    vote(KEYS[event.key]);
  }
});
addEventListener("hashchange", () => enter(location.hash.slice(1)));

if (location.hash.length > 1) enter(location.hash.slice(1));
else show("start");
