// Reports playback quality as CMCD version 2 event reports (CTA-5004-B): no cookies, no ids of viewer or session.
"use strict";

const REPORT_SECONDS = 30;

// `address()` is where reports go; playing time is reported per displayed rendition.
function observeViewing(video, address) {
  let rendition = "other", wished = null, stalled = null, started = false, playedSince = null, played = 0;

  function send(values) {
    if (!address()) return;
    const fields = { v: 2, ts: Date.now(), "vod-rendition": `"${rendition}"`, ...values };
    const body = Object.entries(fields).map(([key, value]) => `${key}=${value}`).join(",");
    const headers = { "Content-Type": "application/cmcd" };
    fetch(address(), { method: "POST", body, headers, keepalive: true, credentials: "omit" }).catch(() => {});
  }

  function count() {
    const now = performance.now();
    if (playedSince !== null) played += now - playedSince;
    const plays = started && stalled === null && !video.paused && !video.ended && !video.seeking;
    playedSince = plays ? now : null;
  }

  function sendPlayed() {
    count();
    if (played < 100) return;
    send({ e: "t", "vod-played": Math.round(played) });
    played = 0;
  }

  video.addEventListener("play", () => { if (!started) wished ??= performance.now(); });
  video.addEventListener("waiting", () => {
    if (started && !video.seeking && !video.paused) stalled ??= performance.now();
    count();
  });
  video.addEventListener("seeking", () => { stalled = null; count(); });  // a viewer who seeks expects to wait
  video.addEventListener("pause", () => { stalled = null; count(); });
  video.addEventListener("ended", () => { stalled = null; sendPlayed(); });
  video.addEventListener("playing", () => {
    const now = performance.now();
    if (!started) send({ e: "ps", sta: "p", msd: Math.round(now - (wished ?? now)) });
    else if (stalled !== null) send({ e: "ps", sta: "p", bsd: `(${Math.round(now - stalled)})` });
    started = true;
    stalled = null;
    count();
  });
  setInterval(sendPlayed, REPORT_SECONDS * 1000);
  addEventListener("pagehide", sendPlayed);
  return {
    shows: (name) => { sendPlayed(); rendition = name; },
    failed: (reason) => send({ e: "e", sta: "f", ec: `("${reason}")` }),
  };
}
