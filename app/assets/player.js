// Plays through the dates. The next date is asked for when the present one is drawn whole and was
// seen for its time, so that nothing flickers, however slow the line is.
const drawn = () => {
  const map = Bokeh.documents[0]?.get_model_by_name("map")
  return map == null || map.renderers.filter((one) => one.type == "TileRenderer")
    .every(({ tile_source }) => [...tile_source.tiles.values()].every((tile) => tile.loaded || tile.finished))
}

export function render({ model }) {
  const box = document.createElement("div")
  box.className = "player"
  box.innerHTML = `
    <button type="button" class="play"></button>
    <label>Speed <select><option value="1500">slow</option><option value="700">usual</option>
      <option value="250">fast</option><option value="0">as it comes</option></select></label>
    <label><input type="checkbox"> Loop</label>
    <label>From <input type="date"></label>
    <label>to <input type="date"></label>
    <button type="button" class="help" aria-label="Keys">?</button>
    <p role="status" hidden>Left and right: dates. Up and down, or [ and ]: layers. Space: play.
      c: compare. ?: this line.</p>`
  const [play, help] = box.querySelectorAll("button")
  const speed = box.querySelector("select")
  const [loop, from, to] = box.querySelectorAll("input")
  const words = box.querySelector("p")
  let timer = null, asked = 0

  const tick = () => {
    const now = Date.now()
    if (model.date !== tick.date) {
      tick.date = model.date
      asked = 0
      tick.since = null
    }
    if (asked > 0 && now - asked < 5000) { return }  // the answer is on its way
    if (!drawn()) {
      tick.since = null
      return
    }
    tick.since ??= now + 40  // the address of the new tiles may come a little later than the date
    if (now - tick.since >= Number(speed.value)) {
      asked = now
      model.send_msg("step")
    }
  }
  const show = () => {
    play.textContent = model.playing ? "❚❚" : "▶"
    play.setAttribute("aria-label", model.playing ? "Pause (space)" : "Play (space)")
    clearInterval(timer)
    asked = 0
    if (model.playing) {
      tick.since = null
      timer = setInterval(tick, 30)
    }
  }
  const bounds = () => {
    for (const input of [from, to]) {
      input.min = model.first
      input.max = model.last
    }
    from.value = model.start
    to.value = model.end
  }
  const guide = () => { words.hidden = !model.guide }
  play.addEventListener("click", () => { model.playing = !model.playing })
  help.addEventListener("click", () => { model.guide = !model.guide })
  speed.value = "700"
  loop.checked = model.loop
  loop.addEventListener("change", () => { model.loop = loop.checked })
  from.addEventListener("change", () => { model.start = from.value })
  to.addEventListener("change", () => { model.end = to.value })
  model.on("playing", show)
  model.on("guide", guide)
  for (const name of ["first", "last", "start", "end"]) { model.on(name, bounds) }
  model.on("remove", () => clearInterval(timer))
  show()
  bounds()
  guide()
  return box
}
