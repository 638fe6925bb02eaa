// ----------------------------------------------------------------------------------- keys, controls and the start

document.addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (target.closest("select, input[type=search]")) return;
  if (/^[1-9]$/.test(event.key)) { choose(Number(event.key) - 1, true); return; }
  const actions = {
    " ": () => (player.playing ? pause() : play()),
    ArrowLeft: () => seek((heard()?.currentTime ?? 0) - 1),
    ArrowRight: () => seek((heard()?.currentTime ?? 0) + 1),
    0: () => seek(0),
    n: () => step(1),
    p: () => step(-1),
    r: () => { $("repeat").checked = !$("repeat").checked; say($("repeat").checked ? "repeat" : "no repeat"); },
  };
  // What has a meaning of its own on the focused element keeps it.
  if (event.key === " " && target.closest("button, input, summary, a")) return;
  if (event.key.startsWith("Arrow") && (target.closest("input") || target.classList.contains("scroll"))) return;
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});

$("play").addEventListener("click", () => (player.playing ? pause() : play()));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("seek").addEventListener("input", () => seek(Number($("seek").value)));
$("find").addEventListener("input", sortFiles);
$("rank").addEventListener("change", () => { view.key = $("rank").value; sortFiles(); });
$("direction").addEventListener("change", () => { view.worst = $("direction").value === "worst"; sortFiles(); });

for (const column of columns) $("rank").append(make("option", { value: column.key }, column.label));
$("scale-low").textContent = `−${data.range} dB`;
$("scale-bar").style.background = `linear-gradient(to right, ${data.palette.join(", ")})`;
const withAudio = data.files.filter((file) => file.media).length;
$("files-note").textContent = "Scores of the enhanced file, and below them the change from the noisy one. " +
  (withAudio < data.files.length ? `The page holds the audio of ${withAudio} of ${data.files.length} files, those of the worst ${metrics.get(data.ranked).label}; names of the others are grey.` : "The page holds the audio of all files.") +
  ` Audio: WAV, 16 bit, ${data.rate / 1000} kHz.`;
showSummary();
sortFiles();
if (data.files.length) open(data.files.find((file) => file.media) ?? data.files[0], false);
