// The player page: waits until the video can be played, plays it with hls.js, and says honestly what is wrong.
"use strict";

const STATE_SECONDS = 2;
const TOKEN_SECONDS = 10;
const body = document.body;
const player = document.getElementById("player");
const video = player.querySelector("video[slot=media]");
const notice = document.getElementById("notice");
const headline = document.getElementById("headline");
const detail = document.getElementById("detail");
const progress = document.getElementById("progress");
const quality = document.getElementById("quality");
const previewBox = document.getElementById("preview");

// The token is part of every path; after a renewal, paths that name the former token are rewritten.
const first = body.dataset.stream;
let stream = first;
const current = (url) => url.replace(new RegExp(`${escapeText(first)}(?=/)`), stream);

function escapeText(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function say(title, text, share = null) {
  notice.hidden = false;
  player.hidden = true;
  headline.textContent = title;
  detail.textContent = text;
  progress.hidden = share === null;
  if (share !== null) progress.value = share;
}

// On a refusal the page asks whoever embeds it for a new token, and goes on where it was.
let renewal = null;
function renewToken() {
  renewal ??= new Promise((resolve) => {
    const done = (renewed) => {
      window.removeEventListener("message", take);
      clearTimeout(timer);
      renewal = null;
      resolve(renewed);
    };
    const take = ({ source, data }) => {
      if (source !== window.parent || data?.type !== "vod:token" || typeof data.token !== "string") return;
      if (!/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(data.token)) return;
      stream = stream.replace(/\/t\/[^/]+$/, `/t/${data.token}`);
      done(true);
    };
    const timer = setTimeout(done, TOKEN_SECONDS * 1000, false);
    window.addEventListener("message", take);
    window.parent.postMessage({ type: "vod:token-needed" }, "*");
  });
  return renewal;
}

async function readState() {
  const answer = await fetch(current(body.dataset.state), { cache: "no-store", credentials: "omit" });
  if (answer.ok) return answer.json();
  if ([401, 403].includes(answer.status)) return { status: "forbidden" };
  return { status: answer.status === 404 ? "missing" : "unavailable" };
}

const NOTICES = {
  forbidden: ["This video is private", "Open it again from the page that links to it: its pass is missing or has expired."],
  missing: ["There is no such video", "It may have been deleted, or the address is incomplete."],
  failed: ["This video could not be processed", "The owner can see the reason and try again."],
  unavailable: ["The video cannot be reached right now", "Trying again…"],
};

async function waitUntilPlayable() {
  for (;;) {
    const state = await readState().catch(() => ({ status: "unavailable" }));
    if (state.title) document.title = state.title;
    if (state.playable) return;
    if (state.status === "processing") {
      say("This video is being processed", "It starts as soon as its first part is there.", state.progress);
    } else {
      say(...NOTICES[state.status]);
      if (state.status !== "unavailable" && !(state.status === "forbidden" && (await renewToken()))) return null;
    }
    await new Promise((resolve) => setTimeout(resolve, STATE_SECONDS * 1000));
  }
}

function playNatively() {
  video.src = `${stream}/master.m3u8`;
}

function playWithHls() {
  const hls = new Hls({
    workerPath: body.dataset.worker,
    xhrSetup: (xhr, url) => { if (current(url) !== url) xhr.open("GET", current(url), true); },
  });
  let recoveries = 0;
  hls.on(Hls.Events.ERROR, async (_, fault) => {
    if (!fault.fatal) return;
    if ([401, 403].includes(fault.response?.code) && (await renewToken())) {
      hls.startLoad();
    } else if (fault.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries++ < 3) {
      hls.recoverMediaError();
    } else if (fault.type === Hls.ErrorTypes.NETWORK_ERROR && ![401, 403].includes(fault.response?.code)) {
      setTimeout(() => hls.startLoad(), STATE_SECONDS * 1000);
    } else {
      hls.destroy();
      say(...NOTICES[[401, 403].includes(fault.response?.code) ? "forbidden" : "unavailable"]);
    }
  });
  hls.on(Hls.Events.MANIFEST_PARSED, () => offerQualities(hls));
  hls.loadSource(`${stream}/master.m3u8`);
  hls.attachMedia(video);
  offerPreviews(hls);
  window.hls = hls;
}

function offerQualities(hls) {
  const side = (level) => Math.min(level.width, level.height);
  const levels = hls.levels.map((level, index) => ({ index, side: side(level) })).sort((a, b) => b.side - a.side);
  quality.replaceChildren(new Option("Auto", "-1"), ...levels.map(({ index, side }) => new Option(`${side}p`, index)));
  quality.onchange = () => { hls.nextLevel = Number(quality.value); };
  quality.parentElement.hidden = levels.length < 2;
}

// Hover previews come from the I-frame playlist, where this hls.js has a player for it.
function offerPreviews(hls) {
  const range = player.querySelector("media-time-range");
  if (typeof hls.createIFramePlayer !== "function") return;
  let frames = null;
  range.addEventListener("pointermove", (event) => {
    if (!Number.isFinite(video.duration)) return;
    const { left, width } = range.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    if (frames === null) {
      frames = hls.createIFramePlayer() ?? false;
      if (frames) frames.attachMedia(previewBox.querySelector("video"));
    }
    if (!frames) return;
    frames.loadMediaAt(share * video.duration);
    previewBox.hidden = false;
    previewBox.style.left = `${Math.min(window.innerWidth - 168, Math.max(8, event.clientX - 80))}px`;
  });
  range.addEventListener("pointerleave", () => { previewBox.hidden = true; });
}

async function start() {
  if ((await waitUntilPlayable()) === null) return;
  notice.hidden = true;
  player.hidden = false;
  if (window.Hls?.isSupported()) playWithHls();
  else if (video.canPlayType("application/vnd.apple.mpegurl")) playNatively();
  else say("This browser cannot play the video", "It has neither Media Source Extensions nor HLS.");
}

start();
