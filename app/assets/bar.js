// A toolbar of plain buttons. A toggle says by aria-pressed whether it is on; a chip stands for a
// kept place with its colour on the map, its line in the plot, and a button that removes it.
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag)
  for (const [key, value] of Object.entries(attributes)) { node.setAttribute(key, value) }
  node.append(...children)
  return node
}

const dashed = (dash) => {
  const space = "http://www.w3.org/2000/svg"
  const svg = document.createElementNS(space, "svg")
  const line = document.createElementNS(space, "line")
  const size = { width: 26, height: 8, "aria-hidden": "true" }
  const shape = { x1: 0, y1: 4, x2: 26, y2: 4, style: "stroke: var(--ink)", "stroke-width": 2, "stroke-dasharray": dash }
  for (const [key, value] of Object.entries(size)) { svg.setAttribute(key, value) }
  for (const [key, value] of Object.entries(shape)) { line.setAttribute(key, value) }
  svg.append(line)
  return svg
}

export function render({ model }) {
  const box = make("div", { class: "bar", role: "toolbar", "aria-label": model.label })
  const nodes = new Map()

  const button = (id) => {
    const node = make("button", { type: "button" })
    node.addEventListener("click", () => model.send_msg({ do: "press", id }))
    nodes.set(id, node)
    return node
  }
  let drawn = ""  // what is there: nodes stay where they are, for a click on one that moves is lost
  const chip = ([id, words, color, dash]) => {
    const swatch = make("i", { style: `background: ${color}` }, id)
    const remove = make("button", { type: "button", "aria-label": `Remove ${words}` }, "×")
    remove.addEventListener("click", () => model.send_msg({ do: "remove", id }))
    return make("span", { class: "chip", title: words }, swatch, dashed(dash), remove)
  }
  const draw = () => {
    const row = model.buttons.map(([id, label, hint, state]) => {
      const node = nodes.get(id) ?? button(id)
      if (node.textContent !== label) { node.textContent = label }
      node.title = hint
      node.disabled = state === "disabled"
      state === "on" || state === "off"
        ? node.setAttribute("aria-pressed", String(state === "on")) : node.removeAttribute("aria-pressed")
      return node
    })
    const wanted = JSON.stringify([model.buttons.map(([id]) => id), model.chips])
    if (wanted === drawn) { return }
    drawn = wanted
    const focused = box.getRootNode().activeElement
    box.replaceChildren(...row, ...model.chips.map(chip))
    if (row.includes(focused)) { focused.focus() }
  }
  model.on(["buttons", "chips"], draw)
  model.on("msg:custom", ({ name, text }) => {
    const anchor = make("a", { download: name })
    anchor.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }))
    anchor.click()
    setTimeout(() => URL.revokeObjectURL(anchor.href), 60000)
  })
  draw()
  return box
}
