// ----------------------------------------------------------------------------------------------------------- player
// All versions play at once, all but one of them muted, so that switching is immediate and at the same place.

const player = { versions: [], heard: 0, playing: false, wanted: "enhanced", urls: [] };
const ORDER = ["noisy", "enhanced", "clean"];
const tone = (name) => `tone${ORDER.includes(name) ? ORDER.indexOf(name) : 3 + (data.systems.filter((s) => !ORDER.includes(s)).indexOf(name) % 3)}`;
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const heard = () => player.versions[player.heard]?.audio;
const length = () => Math.max(0, ...player.versions.map((version) => version.seconds));

function open(file, scroll) {
  const resume = player.playing;
  close();
  view.current = file;
  $("listen-title").textContent = file.name;
  const remarks = Object.entries(file.reasons).flatMap(([system, reasons]) => reasons.map((reason) => `${system}: ${reason}`));
  remarks.push(...Object.entries(file.notes).flatMap(([system, notes]) => notes.map((note) => `${system}: ${note}`)));
  if (!file.media) remarks.push("The audio of this file is not in the page: it holds that of the worst files that could be read (--report-audio tells how many).");
  const media = file.media ? JSON.parse($(file.media).textContent) : { versions: [] };
  if (media.versions.some((version) => version.cut)) remarks.push(`The page holds the first ${data.longest} s; the scores are of the whole file.`);
  $("remarks").replaceChildren(...[...new Set(remarks)].map((remark) => make("p", { class: "remark" }, remark)));
  player.versions = media.versions.map((version, i) => panel(file, version, i));
  $("versions").replaceChildren(...player.versions.map((version) => version.element));
  $("choices").replaceChildren(...player.versions.map((version) => version.choice));
  $("scale").hidden = !player.versions.length;
  for (const control of ["play", "seek", "repeat"]) $(control).disabled = !player.versions.length;
  $("seek").max = length();
  const wanted = player.versions.findIndex((version) => version.name === player.wanted);
  choose(Math.max(0, wanted), false);
  tell();
  mark();
  showPlot();
  if (scroll) $("listen").scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  if (resume && player.versions.length) play();
  say(file.name);
}

function close() {
  pause();
  for (const { audio } of player.versions) { audio.removeAttribute("src"); audio.load(); }
  for (const url of player.urls) URL.revokeObjectURL(url);
  player.versions = [];
  player.urls = [];
}

function panel(file, version, i) {
  const url = URL.createObjectURL(new Blob([bytes(version.audio)], { type: "audio/wav" }));
  player.urls.push(url);
  const audio = make("audio", { src: url, preload: "auto", "data-version": version.name });
  audio.muted = true;
  audio.addEventListener("timeupdate", () => { if (audio === heard()) align(); });
  audio.addEventListener("ended", () => { if (audio === heard()) finish(); });
  audio.addEventListener("error", () => { if (audio.getAttribute("src")) warn(`This browser cannot play the ${version.name} version: ${audio.error?.message || "unknown format"}.`); });
  const key = String(i + 1);
  const choice = make("button", { type: "button", class: tone(version.name), "data-version": version.name, "aria-pressed": "false", "aria-keyshortcuts": key, onclick: () => choose(i, true) }, version.name, make("kbd", { "aria-hidden": "true" }, key));
  const scores = file.scores[version.name];
  const numbers = scores ? ["pesq", "stoi", "si_sdr"].filter((k) => k in scores).map((k) => `${metrics.get(k).label} ${shown(k, scores[k])}`).join(" · ") : version.name === "clean" ? "the reference" : "";
  const playhead = make("div", { class: "playhead" });
  const picture = make("div", { class: "picture" }, make("img", { src: `data:image/png;base64,${version.image}`, alt: `Spectrogram of the ${version.name} version, 0 to ${version.seconds.toFixed(1)} s, 0 to ${data.rate / 2000} kHz`, draggable: "false" }), playhead);
  const seekTo = (event) => {
    const box = picture.getBoundingClientRect();
    seek(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * version.seconds);
  };
  picture.addEventListener("pointerdown", (event) => { if (event.button === 0) { picture.setPointerCapture(event.pointerId); seekTo(event); } });
  picture.addEventListener("pointermove", (event) => { if (picture.hasPointerCapture(event.pointerId)) seekTo(event); });
  const top = data.rate / 2000;
  const frequencies = make("div", { class: "frequencies", "aria-hidden": "true" });
  for (let f = 0; f <= top; f += 2) {
    const label = make("span", { class: f === 0 ? "bottom" : f === top ? "top" : null }, f === top ? `${f} kHz` : `${f}`);
    label.style.top = `${100 - (100 * f) / top}%`;
    frequencies.append(label);
  }
  const times = make("div", { class: "times", "aria-hidden": "true" });
  const marks = ticks(0, version.seconds, 5);
  marks.forEach((t, n) => {
    const label = make("span", { class: n === 0 ? "first" : t > 0.93 * version.seconds ? "last" : null }, n === marks.length - 1 ? `${t} s` : `${t}`);
    label.style.left = `${(100 * t) / version.seconds}%`;
    times.append(label);
  });
  const state = make("span", {}, "");
  const element = make("article", { class: `version ${tone(version.name)}`, "data-version": version.name, "aria-label": version.name }, make("h3", {}, version.name, state), make("p", {}, numbers), make("div", { class: "spectrogram" }, frequencies, picture, times), audio);
  return { name: version.name, seconds: version.seconds, audio, choice, playhead, element, state };
}

function choose(i, announce) {
  const next = player.versions[i];
  if (!next) return;
  const at = heard()?.currentTime ?? 0;
  player.heard = i;
  if (announce) player.wanted = next.name;
  if (Math.abs(next.audio.currentTime - at) > 0.06) next.audio.currentTime = Math.min(at, next.seconds);
  player.versions.forEach((version, n) => {
    version.audio.playbackRate = 1;
    version.audio.muted = n !== i;
    version.choice.setAttribute("aria-pressed", String(n === i));
    version.element.classList.toggle("heard", n === i);
    version.state.textContent = n === i ? "you hear this" : "";
  });
  if (player.playing && next.audio.paused) next.audio.play().catch(refused);
  if (announce) say(`${next.name}`);
}

// Only what nobody hears is moved, and by its speed: a seek would leave it behind by the time that it takes.
function align() {
  const at = heard().currentTime;
  for (const { audio, seconds } of player.versions) {
    if (audio === heard() || audio.ended || at >= seconds) continue;
    const behind = at - audio.currentTime;
    if (Math.abs(behind) > 0.3) audio.currentTime = at;
    audio.playbackRate = Math.abs(behind) > 0.005 ? 1 + Math.max(-0.4, Math.min(0.4, 3 * behind)) : 1;
    if (player.playing && audio.paused) audio.play().catch(refused);
  }
}

function play() {
  if (!player.versions.length) return;
  if (heard().currentTime >= player.versions[player.heard].seconds - 0.02) seek(0);
  player.playing = true;
  for (const { audio } of player.versions) audio.play().catch(refused);
  tell();
  requestAnimationFrame(frame);
}

function pause() {
  player.playing = false;
  for (const { audio } of player.versions) audio.pause();
  if (player.versions.length) seek(heard().currentTime);
}

function refused(error) {
  if (error.name === "AbortError") return;
  pause();
  warn(`The browser did not start playback: ${error.message}`);
}

function finish() {
  if ($("repeat").checked) { seek(0); play(); } else pause();
}

function seek(seconds) {
  for (const version of player.versions) version.audio.currentTime = Math.min(Math.max(0, seconds), version.seconds);
  tell();
}

function frame() {
  tell();
  if (player.playing) requestAnimationFrame(frame);
}

function tell() {
  const at = heard()?.currentTime ?? 0;
  for (const version of player.versions) version.playhead.style.left = `${Math.min(100, (100 * at) / version.seconds)}%`;
  $("seek").value = at;
  $("seek").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${length().toFixed(1)} seconds`);
  $("time").textContent = player.versions.length ? `${at.toFixed(1)} / ${length().toFixed(1)} s` : "–";
  $("play-label").textContent = player.playing ? "Pause" : "Play";
  $("play-sign").setAttribute("d", player.playing ? "M3 2h3.5v12H3zM9.5 2H13v12H9.5z" : "M3 1.5v13L14 8z");
}

function warn(text) {
  $("remarks").append(make("p", { class: "remark" }, text));
  say(text);
}

function say(text) { $("status").textContent = text; }
