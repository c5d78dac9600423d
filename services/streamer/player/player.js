// The player page: waits until the video can be played, plays it with hls.js, and shows what is wrong.
"use strict";

const STATE_SECONDS = 2;
const TOKEN_SECONDS = 10;
const MAX_REFUSALS = 3;
const body = document.body;
const player = document.getElementById("player");
const video = player.querySelector("video[slot=media]");
const notice = document.getElementById("notice");
const title = document.getElementById("title");
const headline = document.getElementById("headline");
const detail = document.getElementById("detail");
const progress = document.getElementById("progress");
const quality = document.getElementById("quality");
const previewBox = document.getElementById("preview");

// The token is part of every path; after a renewal, paths that name the first token are rewritten.
const firstToken = body.dataset.stream.match(/\/t\/([^/]+)$/)?.[1];
let token = firstToken;
const current = (url) => (token === firstToken ? url : url.replace(`/t/${firstToken}/`, `/t/${token}/`));

function say(title, text, share = null) {
  notice.hidden = false;
  player.hidden = true;
  headline.textContent = title;
  detail.textContent = text;
  progress.hidden = share === null;
  if (share !== null) progress.value = share;
}

// On a refusal the page asks its `tokenUrl`, else the embedding page, for a new token, and continues where it was.
// If the new token is refused too, the page asks only a few more times.
let renewal = null;
let refusals = 0;
function renewToken() {
  if (renewal === null && ++refusals > MAX_REFUSALS) return Promise.resolve(false);
  renewal ??= (body.dataset.tokenUrl ? fetchToken() : askEmbedder()).then((given) => {
    renewal = null;
    if (firstToken === undefined || !/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(given)) return false;
    token = given;
    return true;
  });
  return renewal;
}

async function fetchToken() {
  const signal = AbortSignal.timeout(TOKEN_SECONDS * 1000);
  const options = { credentials: "include", cache: "no-store", signal };
  return fetch(body.dataset.tokenUrl, options).then((answer) => answer.json()).then((given) => given.token).catch(() => null);
}

function askEmbedder() {
  if (window.parent === window) return Promise.resolve(null);
  return new Promise((resolve) => {
    const done = (given) => {
      window.removeEventListener("message", take);
      clearTimeout(timer);
      resolve(given);
    };
    const take = ({ source, data }) => {
      if (source === window.parent && data?.type === "vod:token") done(data.token);
    };
    const timer = setTimeout(done, TOKEN_SECONDS * 1000, null);
    window.addEventListener("message", take);
    window.parent.postMessage({ type: "vod:token-needed" }, "*");
  });
}

async function readState() {
  const signal = AbortSignal.timeout(TOKEN_SECONDS * 1000);
  const answer = await fetch(current(body.dataset.state), { cache: "no-store", credentials: "omit", signal });
  if (answer.ok) return answer.json();
  if ([401, 403].includes(answer.status)) return { status: "forbidden" };
  return { status: answer.status === 404 ? "missing" : "unavailable" };
}

const NOTICES = {
  forbidden: ["This video is private", "Open it again from the page that links to it: its pass is missing or has expired, or the video is gone."],
  missing: ["There is no such video", "It may have been deleted, or the address is incomplete."],
  failed: ["This video could not be processed", "The owner can see the reason and try again."],
  unavailable: ["The video cannot be reached right now", "Trying again…"],
};

async function waitUntilPlayable() {
  for (;;) {
    const state = await readState().catch(() => ({ status: "unavailable" }));
    if (state.status !== "forbidden") refusals = 0;
    if (state.title) document.title = title.textContent = state.title;
    if (state.playable) return true;
    if (state.status === "processing") {
      say("This video is being processed", "It starts as soon as its first part is there.", state.progress);
    } else {
      say(...NOTICES[state.status]);
      if (state.status !== "unavailable" && !(state.status === "forbidden" && (await renewToken()))) return false;
    }
    await new Promise((resolve) => setTimeout(resolve, STATE_SECONDS * 1000));
  }
}

const isRefusal = (status) => [401, 403].includes(status);

function giveUp(reason, notice = reason === "refused" ? "forbidden" : "unavailable") {
  viewing.failed(reason);
  say(...NOTICES[notice]);
}

// A browser with native HLS keeps its paths: after a renewal it reloads, at the same position.
function playNatively() {
  const load = (position) => {
    video.src = current(`${body.dataset.stream}/master.m3u8`);
    if (position) video.addEventListener("loadedmetadata", () => { video.currentTime = position; }, { once: true });
  };
  video.addEventListener("error", async () => {
    const { currentTime, paused } = video;
    const { status } = await readState().catch(() => ({ status: "unavailable" }));
    if (status !== "forbidden") return giveUp("media");
    if (!(await renewToken())) return giveUp("refused");
    load(currentTime);
    if (!paused) video.play();
  });
  load(0);
}

function playWithHls() {
  const hls = new Hls({
    workerPath: body.dataset.worker,
    xhrSetup: (xhr, url) => { if (current(url) !== url) xhr.open("GET", current(url), true); },
  });
  let recoveries = 0;
  let over = false;
  const end = (...reason) => {
    if (over) return;
    over = true;
    hls.destroy();
    giveUp(...reason);
  };
  // Whether the viewer may still watch: playlists may come from a cache, the state never does.
  const mayGoOn = async () => {
    const { status } = await readState().catch(() => ({ status: "unavailable" }));
    if (status === "missing") end("network", "missing");
    else if (status === "forbidden" && !(await renewToken())) end("refused");
    return !over;
  };
  // Segment URLs in playlists expire with their grant or signature: load the playlists again, and keep what is
  // buffered.
  let refusedSegments = 0;
  const readPlaylistsAgain = () => {
    hls.stopLoad();
    for (const level of hls.levels) level.details = undefined;
    hls.startLoad();
  };
  hls.on(Hls.Events.FRAG_LOADED, () => { refusedSegments = 0; });
  hls.on(Hls.Events.ERROR, async (_, fault) => {
    const code = fault.response?.code;
    const refused = isRefusal(code);
    if (code === 404 || (refused && fault.frag)) {  // hls.js would continue with the browser's cache
      if (refused) hls.stopLoad();
      if (!(await mayGoOn())) return;
    }
    if (refused && fault.frag) {
      if (++refusedSegments > MAX_REFUSALS) return end("refused");
      readPlaylistsAgain();
      hls.nextLevel = Number(quality.value);
      return;
    }
    const renewed = refused && (await renewToken());
    if (renewed) {
      if (fault.fatal) hls.startLoad();
      hls.nextLevel = Number(quality.value);  // hls.js has switched to another one
    } else if (refused) {
      end("refused");  // immediately: hls.js would otherwise request other renditions
    } else if (!fault.fatal) {
      return;
    } else if (fault.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries++ < 3) {
      hls.recoverMediaError();
    } else if (fault.type === Hls.ErrorTypes.NETWORK_ERROR) {
      if (await mayGoOn()) setTimeout(readPlaylistsAgain, STATE_SECONDS * 1000);
    } else {
      end(fault.type === Hls.ErrorTypes.MEDIA_ERROR ? "media" : "other");
    }
  });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_, { level }) => viewing.shows(nameOf(hls.levels[level])));
  hls.on(Hls.Events.LEVEL_LOADED, () => { refusals = 0; });
  hls.on(Hls.Events.MANIFEST_PARSED, () => offerQualities(hls));
  hls.loadSource(`${body.dataset.stream}/master.m3u8`);
  hls.attachMedia(video);
  offerPreviews(hls);
  window.hls = hls;
}

// A rendition has the name of the folder of its playlist.
const nameOf = (level) => level.uri.match(/([a-z0-9_-]+)\/[^/]+$/)?.[1] ?? "other";
const viewing = observeViewing(video, () => current(body.dataset.viewing));

function offerQualities(hls) {
  const side = (level) => Math.min(level.width, level.height);
  const levels = hls.levels.map((level, index) => ({ index, side: side(level) })).sort((a, b) => b.side - a.side);
  quality.replaceChildren(new Option("Auto", "-1"), ...levels.map(({ index, side }) => new Option(`${side}p`, index)));
  quality.onchange = () => { hls.nextLevel = Number(quality.value); };
  quality.parentElement.hidden = levels.length < 2;
}

const speed = document.getElementById("speed");
speed.onchange = () => { video.playbackRate = Number(speed.value); };
video.addEventListener("ratechange", () => { speed.value = String(video.playbackRate); });

// The captions button is shown only if there are captions.
video.textTracks.addEventListener("addtrack", ({ track }) => {
  if (["captions", "subtitles"].includes(track.kind)) player.querySelector("media-captions-button").hidden = false;
});

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
  if (!(await waitUntilPlayable())) return;
  notice.hidden = true;
  player.hidden = false;
  if (body.dataset.poster) video.poster = current(body.dataset.poster);
  if (window.Hls?.isSupported()) playWithHls();
  else if (video.canPlayType("application/vnd.apple.mpegurl")) playNatively();
  else say("This browser cannot play the video", "It has neither Media Source Extensions nor HLS.");
}

start();
