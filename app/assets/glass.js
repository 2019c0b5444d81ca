// What lies over the map and lets the mouse through: the value under the pointer, the scale bar,
// and the bar that parts two pictures.
const RADIUS = 6378137
const STEPS = [1, 2, 5]

export function render({ model }) {
  const glass = document.createElement("div")
  glass.className = "glass"
  glass.innerHTML = `
    <div class="reading" role="status" aria-live="off" hidden></div>
    <div class="scale" role="img"><i></i><span></span></div>
    <div class="side left" hidden></div><div class="side right" hidden></div>
    <div class="bar" role="slider" tabindex="0" aria-label="Line between two pictures"
      aria-valuemin="0" aria-valuemax="100" aria-orientation="horizontal" hidden><b></b></div>`
  const [reading, scale, left, right, bar] = glass.children
  let view = null, share = model.part, resting = null, last = 0, waiting = null, asking = null, seen = ""

  const figure = () => Bokeh.documents[0]?.get_model_by_name("map")
  const frame = () => {
    const { x, y } = view.canvas_view.el.getBoundingClientRect()
    const { left, top, width, height } = view.frame.bbox
    return { x: x + left, y: y + top, width, height }
  }

  const ask = async (lon, lat) => {
    const [west, south, east, north] = model.look.bounds ?? [0, 0, 0, 0]
    if (lon < west || lon > east || lat < south || lat > north) {
      reading.hidden = true
      return
    }
    const { cube, time, channels } = model.look
    asking?.abort()
    asking = new AbortController()
    const query = new URLSearchParams({ lon, lat, time, channels })
    try {
      const answer = await fetch(`/api/cubes/${encodeURIComponent(cube)}/value?${query}`, { signal: asking.signal })
      if (answer.status != 200) {
        reading.hidden = true
        return
      }
      const { values, usable } = await answer.json()
      const words = Object.entries(values).map(([name, value]) =>
        `${name} ${value == null ? "no value" : Number(value.toPrecision(4))}`)
      reading.textContent = words.join(" · ") + (usable ? "" : " · not usable")
      reading.hidden = false
    } catch (error) {
      if (error.name != "AbortError") { reading.hidden = true }
    }
  }
  const moved = (event) => {
    const { x, y, width, height } = frame()
    const { x_range, y_range } = view.model
    const u = (event.clientX - x) / width, v = 1 - (event.clientY - y) / height
    if (u < 0 || u > 1 || v < 0 || v > 1 || model.look.cube == null) {
      reading.hidden = true
      return
    }
    const mx = x_range.start + u * (x_range.end - x_range.start)
    const my = y_range.start + v * (y_range.end - y_range.start)
    const lon = mx / RADIUS * 180 / Math.PI
    const lat = (2 * Math.atan(Math.exp(my / RADIUS)) - Math.PI / 2) * 180 / Math.PI
    clearTimeout(waiting)
    waiting = setTimeout(() => {
      last = Date.now()
      ask(lon, lat)
    }, Math.max(0, 80 - (Date.now() - last)))
  }

  // over the canvas exactly, whatever the page around it does
  const cover = () => {
    const at = view.canvas_view.el.getBoundingClientRect(), here = glass.getBoundingClientRect()
    const wanted = { left: glass.offsetLeft + at.x - here.x, top: glass.offsetTop + at.y - here.y, width: at.width, height: at.height }
    if (at.x != here.x || at.y != here.y || at.width != here.width || at.height != here.height) {
      for (const [name, value] of Object.entries(wanted)) { glass.style[name] = `${value}px` }
      if (model.split) { cut() }
    }
  }

  const measure = () => {
    const { x_range, y_range } = view.model
    const { width } = view.frame.bbox
    const key = `${x_range.start} ${x_range.end} ${y_range.start} ${width}`
    if (key == seen || !(width > 0)) { return }
    seen = key
    // one mercator metre is 1 / cosh(y / R) metres on the ground
    const ground = (x_range.end - x_range.start) / width / Math.cosh((y_range.start + y_range.end) / 2 / RADIUS)
    const room = 110 * ground
    const power = 10 ** Math.floor(Math.log10(room))
    const length = power * STEPS.filter((step) => step * power <= room).at(-1)
    const words = length < 1000 ? `${Number(length.toPrecision(2))} m` : `${length / 1000} km`
    scale.children[0].style.width = `${length / ground}px`
    scale.children[1].textContent = words
    scale.setAttribute("aria-label", `Scale: the line is ${words} long`)
    if (model.split) { cut() }
  }

  const cut = () => {
    if (view == null) { return }
    for (const one of view.model.renderers.filter(({ type }) => type == "TileRenderer")) {
      const side = one.name == "other" ? [share, 1] : ["front", "back", "over", "glow"].includes(one.name) ? [0, share] : null
      one._cut = model.split ? side : null
    }
    const at = frame(), here = glass.getBoundingClientRect()
    bar.style.left = `${at.x - here.x + share * at.width}px`
    bar.setAttribute("aria-valuenow", Math.round(share * 100))
    bar.setAttribute("aria-valuetext", `${Math.round(share * 100)} % of the width shows ${model.left}`)
    for (const one of [bar, left, right]) { one.hidden = !model.split }
    left.textContent = model.left
    right.textContent = model.right
    view.request_paint()
  }
  const to = (value) => {
    share = Math.min(1, Math.max(0, value))
    cut()
    clearTimeout(resting)
    resting = setTimeout(() => { model.part = share }, 300)
  }
  bar.addEventListener("pointerdown", (event) => {
    bar.setPointerCapture(event.pointerId)
    event.preventDefault()
    bar.focus()
  })
  bar.addEventListener("pointermove", (event) => {
    if (bar.hasPointerCapture(event.pointerId)) {
      const { x, width } = frame()
      to((event.clientX - x) / width)
    }
  })
  bar.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key]
    if (by != null) {
      event.preventDefault()
      event.stopPropagation()
      to(share + by)
    }
  })
  for (const name of ["split", "left", "right"]) { model.on(name, () => setTimeout(cut)) }

  const timer = setInterval(() => {
    view ??= figure() == null ? null : Bokeh.index.find_one(figure())
    if (view == null) { return }
    if (!view._glass) {
      view._glass = true
      view.canvas_view.el.addEventListener("mousemove", moved)
      view.canvas_view.el.addEventListener("mouseleave", () => {
        clearTimeout(waiting)
        reading.hidden = true
      })
      if (model.split) { cut() }
    }
    if (model.split && view.model.renderers.some(({ name, _cut }) => name == "other" && _cut == null)) { cut() }
    cover()
    measure()
  }, 150)
  model.on("remove", () => clearInterval(timer))
  return glass
}
