// SPDX-License-Identifier: Apache-2.0
// One guest's screen, text console and serial port.
import { get, say, sayError, watch } from "/web/api.js";
import { layouts } from "/web/layout.js";
import { Screen } from "/web/screen.js";
import { Text } from "/web/text.js";

const VIEWS = ["screen", "text", "serial"];
const PORT = { text: "console", serial: "serial" };
const byId = (id) => document.getElementById(id);

const name = new URLSearchParams(location.search).get("vm") ?? "";
const path = `/v1/vms/${encodeURIComponent(name)}`;
let view = null; // the open Screen or Text
let shown = null; // its name in VIEWS
let running = false;

function close() {
  view?.close();
  view = null;
}

/* A guest that moves, or whose daemon begins anew, ends the connection; its events say when to open it again. */
function onEnd(reason) {
  close();
  say(reason || "the connection ended", true);
  setTimeout(look, 1000);
}

function open() {
  close();
  byId("screen").hidden = shown !== "screen";
  byId("text").hidden = shown === "screen";
  view = shown === "screen" ? new Screen(byId("screen"), path, onEnd) : new Text(byId("text"), path, PORT[shown], onEnd);
}

function choose(which) {
  shown = which;
  for (const v of VIEWS)
    byId(`to-${v}`).setAttribute("aria-pressed", String(v === which));
  for (const id of ["cad", "paste", "picture"])
    byId(id).disabled = which !== "screen";
  history.replaceState(null, "", `?vm=${encodeURIComponent(name)}&view=${which}`);
  if (running)
    open();
}

async function look() {
  try {
    const vm = await get(path);
    const state = vm.runtime?.state ?? "stopped";
    running = state === "running" || state === "paused";
    say(state);
    if (!running)
      close();
    else if (view === null)
      open();
  } catch (error) {
    sayError(error);
  }
}

async function takePicture() {
  const answer = await fetch(`${path}/screenshot`);
  if (!answer.ok) {
    sayError(await answer.json());
    return;
  }
  const a = document.createElement("a");
  a.href = URL.createObjectURL(await answer.blob());
  a.download = `${name}.png`;
  a.click();
  URL.revokeObjectURL(a.href);
}

function setUpPaste() {
  const box = byId("paste-box");
  for (const [key, layout] of Object.entries(layouts))
    byId("layout").append(new Option(layout.title, key));
  byId("layout").value = localStorage.getItem("layout") ?? "us";
  byId("paste").onclick = () => box.showModal();
  box.onclose = async () => {
    if (box.returnValue !== "go" || shown !== "screen" || view === null)
      return;
    const layout = byId("layout").value;
    localStorage.setItem("layout", layout);
    const left = await view.type(byId("paste-text").value, layouts[layout]);
    if (left.length > 0)
      say(`not on that keyboard, left out: ${[...new Set(left)].join(" ")}`, true);
    byId("paste-text").value = "";
  };
}

/* The daemon asks for a WebSocket (426) only where there is one to be had. */
async function hasScreen() {
  return (await fetch(`${path}/display`)).status === 426;
}

async function begin() {
  byId("name").textContent = name;
  document.title = `${name} - console`;
  for (const v of VIEWS)
    byId(`to-${v}`).onclick = () => choose(v);
  byId("cad").onclick = () => view?.ctrlAltDel();
  byId("picture").onclick = takePicture;
  byId("full").onclick = () => document.querySelector("main").requestFullscreen();
  setUpPaste();
  try {
    const wanted = new URLSearchParams(location.search).get("view");
    choose(VIEWS.includes(wanted) ? wanted : await hasScreen() ? "screen" : "text");
  } catch (error) {
    sayError(error);
    return;
  }
  watch(look);
}

begin();
